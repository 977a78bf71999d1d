"""Estimates the 3D poses of the people in one photograph.

  metrabs-like-predict --image=photo.jpg --output_dir=poses
  metrabs-like-predict --image=photo.jpg --output_dir=poses --boxes="120,40,180,420;400,60,150,390"

Writes `photo_poses.json` (millimetres, pixels; every key tells its unit), `photo_overlay.png` and
`photo_3d.png`. Boxes are left, top, width, height in pixels; without them the whole image counts as
one person. Without `--intrinsics` the field of view is assumed, and absolute distance with it.
"""

import json
import math
import os
import re
import sys

import numpy as np
from absl import flags

from metrabs_like.cli import app, estimators, photographs
from metrabs_like.units import MM_PER_M

DEFAULT_FOV_DEGREES = 55.0
CAMERA_FRAME = (
    "origin at the camera's optical centre, x right, y down, z forward; "
    "pixel (0, 0) is the centre of the top-left pixel"
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("image", "", "Photograph, JPEG or PNG.", values)
    flags.DEFINE_string("output_dir", "", "Folder to write into.", values)
    flags.DEFINE_string(
        "model",
        "",
        "SavedModel, export, training run or preset; empty takes the shipped preset.",
        values,
    )
    flags.DEFINE_string(
        "boxes", "", "Boxes x,y,width,height in px joined with ;, empty for the image.", values
    )
    flags.DEFINE_string(
        "intrinsics", "", "fx,fy,cx,cy or the matrix's nine numbers, row by row, in px.", values
    )
    flags.DEFINE_float(
        "fov_degrees",
        None,
        f"Field of view of the longer side; {DEFAULT_FOV_DEGREES:g} if nothing is known.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "skeleton", "", "Joint set of the model; empty takes coco_17 if it has it.", values
    )
    flags.DEFINE_integer(
        "num_aug", 5, "Test-time views per person, 1 for the plain crop.", 1, flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    """Predicts.

    Raises:
      ValueError: for a file, box, camera, skeleton or model that does not fit; field, value and
        remedy are named.
    """
    app.require(values, "image", "output_dir")
    image = photographs.read(values.image)
    height, width = image.shape[:2]
    boxes, box_source = parse_boxes(values.boxes, width, height)
    intrinsics, camera_source = camera_matrix(values.intrinsics, values.fov_degrees, width, height)
    output_dir = app.writable_folder(values.output_dir, "output_dir")
    model = estimators.load(values.model)
    poses = estimators.estimate(model, image, boxes, intrinsics, values.skeleton, values.num_aug)
    print(f"{len(boxes)} box(es): {box_source}")
    print(f"camera: {camera_source}")
    content = {
        "image": os.path.basename(values.image),
        "image_width_px": width,
        "image_height_px": height,
        "model": values.model or estimators.DEFAULT_PRESET,
        "box_source": box_source,
        "intrinsics_source": camera_source,
        **report(poses, intrinsics),
    }
    stem = os.path.join(output_dir, os.path.splitext(os.path.basename(values.image))[0])
    for path in write(stem, content, image, poses):
        print(f"written: {path}")


def parse_boxes(text: str, width: int, height: int) -> tuple[np.ndarray, str]:
    """Reads `x,y,w,h;x,y,w,h`.

    Args:
      text: the flag; empty means the whole image.
      width: of the image, px.
      height: of the image, px.

    Returns:
      Boxes float `[N, 4]`, px, and a sentence that tells where they come from.

    Raises:
      ValueError: for a box that is no four finite numbers, has no area, or lies outside.
    """
    if not text.strip():
        whole = np.array([[0, 0, width, height]], np.float32)
        return whole, "no --boxes given, the whole image is taken as one person"
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
    return np.array(boxes, np.float32).reshape(-1, 4), "--boxes"


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
                "box_xywh_px": _rounded(poses.boxes[i]),
                "joints3d_mm": _rounded(poses.poses3d[i]),
                "joints2d_px": _rounded(poses.poses2d[i]),
                "uncertainty_mm": None if uncertainty is None else _rounded(uncertainty),
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
    import cv2

    from metrabs_like.viz import overlay, palette, plot3d

    sides, edges = palette.joint_sides(poses.skeleton), poses.skeleton.edges
    drawn = overlay.draw_poses(image, poses.poses2d, edges, poses.boxes, sides=sides)
    encoded = cv2.imencode(".png", drawn[..., ::-1])[1].tobytes()
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[\s+([^\[\]]*?)\s+\]", _on_one_line, text).encode()

    def plot(path):
        plot3d.save_pose_plot(path, poses.poses3d / MM_PER_M, edges, sides=sides)

    writers = {
        f"{stem}_poses.json": lambda path: _write_bytes(path, text),
        f"{stem}_overlay.png": lambda path: _write_bytes(path, encoded),
        f"{stem}_3d.png": plot,
    }
    for path, writer in writers.items():
        with app.replacing(path) as temporary:
            writer(temporary)
    return list(writers)


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


def _rounded(values):
    """Nested lists of numbers with two decimals, None for what is not finite."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [_rounded(value) for value in values]
    return round(float(values), 2) if math.isfinite(values) else None


def _on_one_line(match):
    """An innermost list without its line breaks."""
    return "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"


def _write_bytes(path, content):
    """Writes a whole file."""
    with open(path, "wb") as file:
        file.write(content)


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
