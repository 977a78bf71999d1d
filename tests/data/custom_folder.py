"""Writes a folder in the `custom` layout, as a person would by hand."""

import json

import cv2
import numpy as np

SKELETON = {
    "name": "stick",
    "joint_names": ["hip", "neck", "lhand", "rhand"],
    "edges": [["hip", "neck"], ["neck", "lhand"], ["neck", "rhand"]],
}
PERSON = {
    "points3d_m": {
        "hip": [0.1, 0.2, 4.0],
        "neck": [0.1, -0.3, 4.0],
        "lhand": [0.6, -0.2, 3.9],
        "rhand": None,
    },
    "points2d_px": {"rhand": [60.0, 70.5]},
}
LINE = {
    "image": "images/a.png",
    "intrinsics": [[200, 0, 79.5], [0, 200, 59.5], [0, 0, 1]],
    "distortion": [-0.1, 0.02, 0.001],
    "people": [PERSON],
}


def write_folder(folder, n_images=1, *, changes=None, person=None, image=None):
    """Writes skeleton, images and annotation; `changes`, `person` and `image` replace parts."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "skeleton.json").write_text(json.dumps(SKELETON))
    pixels = np.full((120, 160, 3), 90, np.uint8)
    encoded = cv2.imencode(".png", pixels)[1].tobytes() if image is None else image
    lines = []
    for i in range(n_images):
        name = f"images/{'abcdefgh'[i]}.png"
        (folder / name).write_bytes(encoded)
        line = {**LINE, "image": name, **(changes or {})}
        if person is not None:
            line["people"] = [{**PERSON, **person}]
        lines.append(json.dumps({key: value for key, value in line.items() if value is not None}))
    (folder / "annotations.jsonl").write_text("\n\n".join(lines) + "\n")
    return str(folder)
