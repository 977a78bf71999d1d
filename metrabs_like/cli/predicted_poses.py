"""3D poses of a photograph as files: boxes and camera from flags, JSON, overlay and plot.

Conventions: boxes (left, top, width, height) px; poses in millimetres in the camera frame.
"""

import math

import numpy as np

from metrabs_like.cli import estimators, result_files
from metrabs_like.cli.result_files import rounded
from metrabs_like.units import MM_PER_M

DEFAULT_FOV_DEGREES = 55.0
CAMERA_FRAME = (
    "origin at the camera's optical centre, x right, y down, z forward; "
    "pixel (0, 0) is the centre of the top-left pixel"
)


def parse_boxes(text: str, width: int, height: int) -> np.ndarray:
    """Reads `x,y,w,h;x,y,w,h`.

    Args:
      text: the flag.
      width: of the image, px.
      height: of the image, px.

    Returns:
      Boxes float `[N, 4]`, px.

    Raises:
      ValueError: for a box that is no four finite numbers, has no area, or lies outside.
    """
    boxes = []
    for part in filter(str.strip, text.split(";")):
        box = _numbers(part, "boxes", (4,), "x,y,width,height in px, boxes joined with ;")
        x, y, w, h = box
        if w <= 0 or h <= 0:
            raise ValueError(f"--boxes: {part!r} has no area: width and height must be above 0 px")
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise ValueError(
                f"--boxes: {part!r} lies outside the image of {width} x {height} px: "
                "give left, top, width and height in px of the upright image"
            )
        boxes.append(box)
    return np.array(boxes, np.float32).reshape(-1, 4)


def camera_matrix(
    text: str, fov_degrees: float | None, width: int, height: int
) -> tuple[np.ndarray, str]:
    """Reads the intrinsics or makes them from the field of view.

    Args:
      text: `fx,fy,cx,cy` or nine numbers in px, or empty.
      fov_degrees: field of view of the longer side, or None.
      width: of the image, px.
      height: of the image, px.

    Returns:
      Matrix float `[3, 3]`, px, and a sentence that tells where it comes from.

    Raises:
      ValueError: for both at once, other counts of numbers, or values out of range.
    """
    if text and fov_degrees is not None:
        raise ValueError("--intrinsics and --fov_degrees exclude each other: give one of them")
    if text:
        return _matrix(text), "--intrinsics"
    fov = DEFAULT_FOV_DEGREES if fov_degrees is None else fov_degrees
    if not (math.isfinite(fov) and 0 < fov < 180):
        raise ValueError(f"--fov_degrees={fov}: must be between 0 and 180, e.g. 55")
    focal = max(width, height) / (2 * math.tan(math.radians(fov) / 2))
    matrix = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    known = "given" if fov_degrees is not None else "assumed, so distances are uncertain"
    return matrix, f"field of view of {fov:g} degrees along the longer side, {known}"


def report(poses: estimators.Poses, intrinsics: np.ndarray) -> dict:
    """Puts poses into plain lists whose keys carry their units.

    Args:
      poses: what was estimated.
      intrinsics: `[3, 3]`, px.

    Returns:
      A dict ready for JSON; what is not finite is None.
    """
    people = []
    for i in range(len(poses.boxes)):
        uncertainty = None if poses.uncertainties is None else poses.uncertainties[i]
        people.append(
            {
                "box_xywh_px": rounded(poses.boxes[i]),
                "joints3d_mm": rounded(poses.poses3d[i]),
                "joints2d_px": rounded(poses.poses2d[i]),
                "uncertainty_mm": None if uncertainty is None else rounded(uncertainty),
            }
        )
    return {
        "camera_frame": CAMERA_FRAME,
        "intrinsics_px": np.asarray(intrinsics, np.float64).tolist(),
        "skeleton": poses.skeleton.name,
        "joint_names": list(poses.skeleton.joint_names),
        "joint_edges": [list(edge) for edge in poses.skeleton.edges],
        "people": people,
    }


def write(stem: str, content: dict, image: np.ndarray, poses: estimators.Poses) -> list[str]:
    """Writes JSON, overlay and 3D plot; each file appears only when it is complete.

    Args:
      stem: path without ending.
      content: for the JSON file.
      image: uint8 `[H, W, 3]`, RGB.
      poses: to draw.

    Returns:
      The three paths.

    Raises:
      OSError: if a file cannot be written.
    """
    from metrabs_like.viz import overlay, palette, plot3d

    sides, edges = palette.joint_sides(poses.skeleton), poses.skeleton.edges
    drawn = overlay.draw_poses(image, poses.poses2d, edges, poses.boxes, sides=sides)

    def plot(path):
        plot3d.save_pose_plot(path, poses.poses3d / MM_PER_M, edges, sides=sides)

    return result_files.write(
        {
            f"{stem}_poses.json": result_files.json_bytes(content),
            f"{stem}_overlay.png": result_files.png_bytes(drawn),
            f"{stem}_3d.png": plot,
        }
    )


def _numbers(text, flag, counts, form):
    """Comma-separated finite numbers of one of the allowed counts."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(map(math.isfinite, numbers)):
        raise ValueError(f"--{flag}: {text!r} must be {form}")
    return numbers


def _matrix(text):
    """Intrinsics from four or nine numbers."""
    numbers = _numbers(text, "intrinsics", (4, 9), "fx,fy,cx,cy or nine numbers, finite, in px")
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        numbers = [fx, 0, cx, 0, fy, cy, 0, 0, 1]
    matrix = np.array(numbers).reshape(3, 3)
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError(f"--intrinsics={text}: the focal lengths fx and fy must be above 0 px")
    if matrix[1, 0] != 0 or matrix[2].tolist() != [0, 0, 1]:
        raise ValueError(f"--intrinsics={text}: the matrix must be fx,s,cx,0,fy,cy,0,0,1")
    return matrix
