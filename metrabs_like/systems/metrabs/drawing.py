"""Pictures of decoded poses on their crops."""

import numpy as np

from metrabs_like import skeletons
from metrabs_like.systems.metrabs.config import Config
from metrabs_like.viz import overlay, palette


def draw(image, decoded, config=None):
    """Draws decoded poses on the crops that they were estimated from.

    Of a union of skeletons the first part is drawn: the others show the same body once more.

    Args:
      image: `[S, S, 3]` with the points of one crop, or a batch `[B, S, S, 3]`; uint8, or float
        in 0..1.
      decoded: of `decode`; `coords2d` `[P, 2]`, `[N, P, 2]` (several people on one image) or, for
        a batch of images, `[B, P, 2]`; crop px.
      config: `Config`, for joints and edges; None takes the default config's skeleton.

    Returns:
      uint8 picture(s) of the shape of `image`. Non-finite points are left out.

    Raises:
      ValueError: if the number of points is not that of the config's skeleton.
    """
    config = config or Config()
    skeleton = config.joints
    coords2d = np.asarray(decoded["coords2d"], np.float64)
    if coords2d.shape[-2] != skeleton.n_joints:
        raise ValueError(
            f"decoded['coords2d'] has {coords2d.shape[-2]} points, but the skeleton "
            f"{skeleton.name!r} has {skeleton.n_joints}; pass the config that the model has."
        )
    image = overlay.to_uint8(image)
    shown = next(iter(skeletons.components(skeleton).values()))
    edges = [edge for edge in skeleton.edges if edge[0] in shown and edge[1] in shown]
    shown_only = np.full(coords2d.shape, np.nan)
    shown_only[..., shown, :] = coords2d[..., shown, :]
    sides = palette.joint_sides(skeleton)
    if image.ndim == 3:
        poses = shown_only.reshape(-1, *coords2d.shape[-2:])
        return overlay.draw_poses(image, poses, edges, sides=sides)
    pictures = [
        overlay.draw_poses(picture, pose[np.newaxis], edges, sides=sides)
        for picture, pose in zip(image, shown_only, strict=True)
    ]
    return np.stack(pictures) if pictures else np.zeros(image.shape, np.uint8)
