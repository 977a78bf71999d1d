"""Poses drawn on images.

Conventions: RGB uint8 images; pixel (0, 0) is the centre of the top-left pixel; boxes are
(x, y, width, height) px.
"""

import cv2
import numpy as np

from metrabs_like.viz import palette

_SUBPIXEL_BITS = 4


def to_uint8(image):
    """Turns an image of intensities 0..1 into one of 0..255.

    Args:
      image: array of any shape; uint8 stays as it is, numbers outside 0..1 are cut off.

    Returns:
      uint8 array.
    """
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return np.round(np.clip(image.astype(np.float64), 0.0, 1.0) * 255.0).astype(np.uint8)


def tinted(image, mask, color, opacity=0.45):
    """Colours the part of an image that a mask covers.

    Args:
      image: uint8 `[H, W, 3]`, RGB.
      mask: bool `[H, W]`.
      color: three numbers 0..255.
      opacity: share of the colour, 0..1.

    Returns:
      uint8 `[H, W, 3]`, a new array.
    """
    mixed = (1 - opacity) * image + opacity * np.asarray(color, np.float64)
    return np.where(np.asarray(mask)[..., np.newaxis], np.rint(mixed), image).astype(np.uint8)


def draw_poses(image, poses2d, edges, boxes=None, *, sides=None, validity=None):
    """Draws skeletons, and boxes if given, on a copy of the image.

    Colour means body side (left orange, right blue, middle white), never depth; each line has a
    dark border so that it shows on any background. Boxes are coloured by person.

    Args:
      image: uint8 `[H, W, 3]` (or `[H, W]`, grey), RGB.
      poses2d: `[N, P, 2]`, px; N may be 0. Points may lie outside the image. Non-finite ones
        and their edges are left out.
      edges: pairs of joint indices.
      boxes: `[N, 4+]`, x, y, width, height px (further columns are ignored), or None.
      sides: "left", "right" or "middle" per joint (`palette.joint_sides`), or None: all middle.
      validity: bool `[N, P]`, or None for all valid; invalid points are left out.

    Returns:
      uint8 `[H, W, 3]`, a new array.

    Raises:
      ValueError: if the image is not uint8 or the poses' shape is wrong.
    """
    canvas = _to_canvas(image)
    poses2d = _to_numpy(poses2d)
    if poses2d.size == 0:
        poses2d = np.zeros((0, 0, 2))
    if poses2d.ndim != 3 or poses2d.shape[-1] != 2:
        raise ValueError(f"poses2d must have shape [N, P, 2], got {list(poses2d.shape)}.")
    boxes = [] if boxes is None else _to_numpy(boxes)
    thickness = max(1, round(min(canvas.shape[:2]) / 180))
    for i, box in enumerate(boxes):
        _draw_box(canvas, box, palette.PERSON_COLORS[i % len(palette.PERSON_COLORS)], thickness)
    for i, pose in enumerate(poses2d):
        is_drawn = np.isfinite(pose).all(axis=-1)
        if validity is not None:
            is_drawn &= np.asarray(validity[i], bool)
        _draw_pose(canvas, pose, is_drawn, edges, sides, _line_width(pose[is_drawn], thickness))
    return canvas


def _line_width(points, widest):
    """Makes the lines of small people thinner."""
    if len(points) == 0:
        return widest
    return int(np.clip(round(np.ptp(points, axis=0).max() / 60), 1, widest))


def _draw_pose(canvas, pose, is_drawn, edges, sides, thickness):
    """Draws one person: all borders first, so that no line is cut by another's border."""
    edge_colors = [palette.SIDE_COLORS[side] for side in palette.edge_sides(edges, sides)]
    point_sides = ["middle"] * len(pose) if sides is None else sides
    for is_border in (True, False):
        for (a, b), color in zip(edges, edge_colors, strict=True):
            if is_drawn[a] and is_drawn[b]:
                width = thickness + 2 if is_border else thickness
                _draw_line(canvas, pose[a], pose[b], (0, 0, 0) if is_border else color, width)
        for point, side, drawn in zip(pose, point_sides, is_drawn, strict=True):
            if drawn:
                color = (0, 0, 0) if is_border else palette.SIDE_COLORS[side]
                _draw_dot(canvas, point, color, thickness + (2 if is_border else 1))


def _draw_box(canvas, box, color, thickness):
    """Draws one box, clipped to the surroundings of the image."""
    if not np.isfinite(box[:4]).all():
        return
    x, y, width, height = (float(v) for v in box[:4])
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        _draw_line(canvas, start, end, color, thickness)


def _draw_line(canvas, start, end, color, thickness):
    """Draws a line with subpixel ends that may lie anywhere."""
    clipped = _clip_segment(np.asarray(start, float), np.asarray(end, float), canvas.shape)
    if clipped is not None:
        ends = [tuple(int(round(v * 2**_SUBPIXEL_BITS)) for v in point) for point in clipped]
        cv2.line(canvas, *ends, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_dot(canvas, point, color, radius):
    """Draws a filled circle if it is near the image at all (OpenCV's integers overflow)."""
    height, width = canvas.shape[:2]
    if -radius <= point[0] <= width + radius and -radius <= point[1] <= height + radius:
        center = tuple(int(round(float(v) * 2**_SUBPIXEL_BITS)) for v in point)
        scaled_radius = radius << _SUBPIXEL_BITS
        cv2.circle(canvas, center, scaled_radius, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _clip_segment(start, end, shape):
    """Cuts a segment to the image and a margin (Liang-Barsky); None where nothing is left."""
    margin = 20.0
    lowest = np.array([-margin, -margin])
    highest = np.array([shape[1] + margin, shape[0] + margin])
    direction = end - start
    t_enter, t_leave = 0.0, 1.0
    for axis in range(2):
        if direction[axis] == 0:
            if not lowest[axis] <= start[axis] <= highest[axis]:
                return None
            continue
        t = (np.array([lowest[axis], highest[axis]]) - start[axis]) / direction[axis]
        t_enter, t_leave = max(t_enter, t.min()), min(t_leave, t.max())
    if t_enter > t_leave:
        return None
    return start + t_enter * direction, start + t_leave * direction


def _to_canvas(image):
    """Copies an image to contiguous RGB."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[-1:] == (4,):
        raise ValueError(
            f"image must be uint8 [H, W, 3] or [H, W], got {image.dtype} {list(image.shape)}; "
            "scale 0..1 images by 255 and drop transparency first."
        )
    if image.ndim == 2:
        image = image[..., np.newaxis]
    shape = (*image.shape[:2], 3)
    return np.ascontiguousarray(np.broadcast_to(image, shape)).copy()


def _to_numpy(x):
    """Converts a tensor or array to float64."""
    return np.asarray(x, np.float64)
