"""3D poses as pictures.

Conventions: poses come in metres in the camera frame (x right, y down, z forward) and are drawn
upright: sideways = x, away from the camera = z, up = -y. Axes have equal scale and show metres.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from metrabs_like.viz import palette

#: Name, elevation and azimuth in degrees: as the camera sees the person, and from their side.
_VIEWS = (("from the camera, a little above", 12.0, -75.0), ("from the side", 8.0, 0.0))
_MIN_EXTENT_M = 1.0


def save_pose_plot(
    path, poses3d_m, edges, *, sides=None, reference3d_m=None, validity=None, title=""
):
    """Writes a PNG with two views of 3D poses.

    Args:
      path: file to write; an existing one is replaced.
      poses3d_m: `[N, P, 3]` or `[P, 3]`, m, camera frame; N may be 0. Non-finite points and
        their edges are left out.
      edges: pairs of joint indices.
      sides: "left", "right" or "middle" per joint (`palette.joint_sides`), or None.
      reference3d_m: true poses of the same form, drawn thin and grey, or None.
      validity: bool like the poses without the last dimension, or None; invalid reference
        points are left out (predictions are shown in full).
      title: text above the picture.

    Raises:
      ValueError: if the poses' shape is wrong.
      OSError: if the file cannot be written.
    """
    figure = pose_figure(
        poses3d_m,
        edges,
        sides=sides,
        reference3d_m=reference3d_m,
        validity=validity,
        title=title,
    )
    figure.savefig(path, format="png", dpi=110, facecolor="white")


def pose_figure(poses3d_m, edges, *, sides=None, reference3d_m=None, validity=None, title=""):
    """Builds the figure that `save_pose_plot` writes; shows by itself in a notebook.

    Args:
      poses3d_m: as in `save_pose_plot`.
      edges: as in `save_pose_plot`.
      sides: as in `save_pose_plot`.
      reference3d_m: as in `save_pose_plot`.
      validity: as in `save_pose_plot`.
      title: as in `save_pose_plot`.

    Returns:
      `matplotlib.figure.Figure`, free of pyplot's global state.

    Raises:
      ValueError: if the poses' shape is wrong.
    """
    poses = _to_upright(poses3d_m, "poses3d_m")
    reference = None
    if reference3d_m is not None:
        reference = _to_upright(reference3d_m, "reference3d_m")
        if validity is not None:
            is_valid = np.asarray(validity, bool).reshape(reference.shape[:2])
            reference = np.where(is_valid[..., np.newaxis], reference, np.nan)
    limits = _equal_limits([poses] if reference is None else [poses, reference])
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for i, (name, elevation, azimuth) in enumerate(_VIEWS):
        axes = figure.add_subplot(1, len(_VIEWS), i + 1, projection="3d")
        _set_up_axes(axes, limits, name, elevation, azimuth)
        if reference is not None:
            _plot_reference(axes, reference, edges)
        _plot_poses(axes, poses, edges, sides)
    _add_legend(figure.axes[0], sides is not None, reference is not None)
    return figure


def _plot_poses(axes, poses, edges, sides):
    """Draws predicted poses in side colours."""
    point_sides = ("middle",) * poses.shape[1] if sides is None else sides
    point_colors = [_on_white(side) for side in point_sides]
    edge_colors = [_on_white(side) for side in palette.edge_sides(edges, sides)]
    for pose in poses:
        for (a, b), color in zip(edges, edge_colors, strict=True):
            axes.plot(*pose[[a, b]].T, color=color, linewidth=2.2, solid_capstyle="round")
        is_finite = np.isfinite(pose).all(axis=-1)
        colors = [c for c, keep in zip(point_colors, is_finite, strict=True) if keep]
        axes.scatter(*pose[is_finite].T, c=colors or None, s=12, depthshade=False)


def _plot_reference(axes, poses, edges):
    """Draws true poses thin and grey."""
    color = np.array(palette.REFERENCE_COLOR) / 255
    for pose in poses:
        for a, b in edges:
            axes.plot(*pose[[a, b]].T, color=color, linewidth=1.4, linestyle="--")


def _set_up_axes(axes, limits, name, elevation, azimuth):
    """Labels one view and gives all three axes the same scale."""
    axes.set_title(name, fontsize=10)
    for low_high, set_limits in zip(
        limits, (axes.set_xlim, axes.set_ylim, axes.set_zlim), strict=True
    ):
        set_limits(*low_high)
    axes.set_box_aspect((1, 1, 1))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("right x [m]")
    axes.set_ylabel("depth z [m]")
    axes.set_zlabel("up -y [m]")
    axes.tick_params(labelsize=7)
    if azimuth == 0.0:  # seen end-on, the labels of x would lie on each other
        axes.set_xticklabels([])
        axes.set_xlabel("")
    axes.view_init(elev=elevation, azim=azimuth)


def _add_legend(axes, has_sides, has_reference):
    """Explains the colours."""
    entries = []
    if has_sides:
        entries += [Line2D([], [], color=_on_white(s), label=s) for s in palette.SIDE_COLORS]
    if has_reference:
        color = np.array(palette.REFERENCE_COLOR) / 255
        entries.append(Line2D([], [], color=color, linestyle="--", label="ground truth"))
    if entries:
        axes.legend(handles=entries, loc="upper left", fontsize=8)


def _on_white(side):
    """Returns the 0..1 colour of a side; white does not show on paper."""
    color = (60, 60, 60) if side == "middle" else palette.SIDE_COLORS[side]
    return tuple(v / 255 for v in color)


def _to_upright(poses3d_m, name):
    """Turns camera-frame poses to plot axes `[N, P, 3]`, non-finite points to NaN."""
    poses = np.asarray(poses3d_m, np.float64)
    if poses.size == 0:
        poses = np.zeros((0, 0, 3))
    elif poses.ndim == 2:
        poses = poses[np.newaxis]
    if poses.ndim != 3 or poses.shape[-1] != 3:
        raise ValueError(f"{name} must have shape [N, P, 3] or [P, 3], got {list(poses.shape)}.")
    poses = np.stack([poses[..., 0], poses[..., 2], -poses[..., 1]], axis=-1)
    return np.where(np.isfinite(poses).all(axis=-1, keepdims=True), poses, np.nan)


def _equal_limits(pose_sets):
    """Finds axis limits of one common length around all finite points."""
    points = np.concatenate([poses.reshape(-1, 3) for poses in pose_sets])
    points = points[np.isfinite(points).all(axis=-1)]
    if len(points) == 0:
        points = np.zeros((1, 3))
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(_MIN_EXTENT_M, 1.05 * (high - low).max()) / 2
    return [(c - half, c + half) for c in (low + high) / 2]
