"""Found people of a photograph as files: JSON and overlay.

Conventions: boxes (left, top, width, height) px, joints in px of the photograph.
"""

import os

import numpy as np

from metrabs_like.cli import estimators, result_files
from metrabs_like.cli.result_files import rounded


def report(people: estimators.People) -> dict:
    """Puts people into plain lists whose keys carry their units.

    Args:
      people: what was found.

    Returns:
      A dict ready for JSON; what is not finite is None.
    """
    found = [
        {
            "box_xywh_px": rounded(people.boxes[i]),
            "score": rounded(people.scores[i]),
            "joints2d_px": rounded(people.poses2d[i]),
            "joint_scores": rounded(people.joint_scores[i]),
        }
        for i in range(len(people.boxes))
    ]
    return {
        "joint_names": list(people.skeleton.joint_names),
        "joint_edges": [list(edge) for edge in people.skeleton.edges],
        "people": found,
    }


def write(
    stem: str, content: dict, image: np.ndarray, people: estimators.People, joint_threshold: float
) -> list[str]:
    """Writes JSON and overlay, with masks each mask as a PNG; each appears only when complete.

    Args:
      stem: path without ending.
      content: for the JSON file, which also gets `mask_files`, in the order of the people.
      image: uint8 `[H, W, 3]`, RGB.
      people: to draw.
      joint_threshold: joints of a lower score are not drawn.

    Returns:
      The paths.

    Raises:
      OSError: if a file cannot be written.
    """
    from metrabs_like.viz import overlay, palette

    canvas, files, names = image, {}, []
    for number, mask in enumerate(() if people.masks is None else people.masks):
        color = palette.PERSON_COLORS[number % len(palette.PERSON_COLORS)]
        canvas = overlay.tinted(canvas, mask, color)
        levels = np.repeat(np.uint8(255) * mask[..., np.newaxis], 3, axis=-1)
        files[f"{stem}_mask_{number}.png"] = result_files.png_bytes(levels)
        names.append(os.path.basename(f"{stem}_mask_{number}.png"))
    drawn = overlay.draw_poses(
        canvas,
        people.poses2d,
        people.skeleton.edges,
        people.boxes,
        sides=palette.joint_sides(people.skeleton),
        validity=people.joint_scores > joint_threshold,
    )
    # masks of an earlier prediction may lie there, too: the JSON names those of this one
    content = content | ({} if people.masks is None else {"mask_files": names})
    files[f"{stem}_people.json"] = result_files.json_bytes(content)
    files[f"{stem}_people.png"] = result_files.png_bytes(drawn)
    return result_files.write(files)
