"""Writes synthetic people as DensePose-COCO, with charts of the procedural body.

The truth is known exactly: points are drawn on visible faces of the posed body, and a chart point
is the same mixture of its face's corners in U and V as the surface point is in space.
"""

import pathlib

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from metrabs_like.data.people import SurfacePoints
from metrabs_like.data.synthetic.body_model import camera_points, procedural_body
from tests.native import charts, coco, scene

# Fine parts of each of the 14 coarse masks: torso, right hand, left hand, ...
COARSE_PARTS = (
    *((1, 2), (3,), (4,), (5,), (6,), (7, 9), (8, 10), (11, 13), (12, 14)),
    *((15, 17), (16, 18), (19, 21), (20, 22), (23, 24)),
)
_MIN_UV_AREA = 1e-5  # of a triangle: points in thinner ones would not be found back exactly


def write(folder, records, *, split="train", n_points=100, seed=0):
    """Writes annotations, pictures and `UV_data/UV_Processed.mat`.

    Args:
      folder: to write to.
      records: images without lens distortion whose people have `body`.
      split: "train", "valminusminival" or "minival".
      n_points: marked points a person, fewer where little is visible.
      seed: of the points.

    Returns:
      `(content, truth)`: the annotation file's content, and one `SurfacePoints` a row in its order.
    """
    rng = np.random.default_rng(seed)
    body = procedural_body()
    parts, faces, uv = charts.body_charts(body)
    charts.write_uv_processed(
        pathlib.Path(folder) / "UV_data" / "UV_Processed.mat", parts, faces, uv
    )
    pictures = "train2014" if split == "train" else "val2014"
    images, rows, truth = [], [], []
    for image_id, record in enumerate(records, start=1):
        images.append(coco.image_row(record, image_id, pictures))
        for person in record.people:
            row = coco.person_row(record, person, len(rows) + 1, image_id)
            shown = _faces_shown(record, person, faces)
            ids, weights, points2d = _drawn_points(rng, record, person, faces, uv, shown, n_points)
            row |= _dense_fields(row["bbox"], parts[ids], weights, uv[ids], points2d)
            row["dp_masks"] = _coarse_masks(row["bbox"], shown, parts)
            rows.append(row)
            truth.append(SurfacePoints(faces[ids], weights, points2d))
    content = {"images": images, "annotations": rows, "categories": [coco.CATEGORY]}
    coco.write_files(folder, records, content, pictures, f"densepose_coco_2014_{split}.json")
    return content, truth


def _faces_shown(record, person, faces):
    """The number of the face that each pixel of the person's mask shows, -1 elsewhere."""
    vertices, _ = camera_points(person.body)
    pixels = scene.pixels(vertices, record.intrinsics)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    is_facing = (normals * corners.mean(axis=1)).sum(axis=-1) < 0
    canvas = np.full((record.height, record.width), -1, np.float32)
    for face in np.argsort(-corners[..., 2].mean(axis=-1)):
        if is_facing[face]:
            outline = np.rint(pixels[faces[face]] * 16).astype(np.int32)
            cv2.fillConvexPoly(canvas, outline, float(face), cv2.LINE_8, 4)
    canvas[scene.whole_mask(record, person) == 0] = -1
    return canvas.astype(int)


def _drawn_points(rng, record, person, faces, uv, shown, n_points):
    """Faces, weights and pixels of points that are seen."""
    edges = uv[:, 1:] - uv[:, :1]
    area = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
    seen = shown[(shown >= 0) & (area[shown] > _MIN_UV_AREA)]
    ids = rng.choice(seen, 4 * n_points) if seen.size else np.zeros(0, int)
    weights = rng.dirichlet((2, 2, 2), len(ids))
    corners = camera_points(person.body)[0][faces[ids]]
    points2d = scene.pixels((weights[..., np.newaxis] * corners).sum(axis=1), record.intrinsics)
    x, y = np.clip(np.rint(points2d).astype(int), 0, [record.width - 1, record.height - 1]).T
    kept = np.flatnonzero(shown[y, x] == ids)[:n_points]
    return ids[kept], weights[kept], points2d[kept]


def _dense_fields(bbox, parts, weights, uv, points2d):
    """`dp_x` ... `dp_V` of points: pixels in the rounded box, stretched to 0..255."""
    x, y, width, height = np.round(bbox)
    u, v = (weights[..., np.newaxis] * uv).sum(axis=1).T
    return {
        "dp_x": ((points2d[:, 0] - x) * 255 / width).tolist(),
        "dp_y": ((points2d[:, 1] - y) * 255 / height).tolist(),
        "dp_I": parts.astype(float).tolist(),
        "dp_U": u.tolist(),
        "dp_V": v.tolist(),
    }


def _coarse_masks(bbox, shown, parts):
    """The 14 run-length codes of 256 x 256 pixels; an empty list where nothing is seen."""
    x, y, width, height = np.round(bbox).astype(int)
    fine = np.where(shown >= 0, parts[shown], 0)[y : y + height, x : x + width].astype(np.uint8)
    fine = cv2.resize(fine, (256, 256), interpolation=cv2.INTER_NEAREST)
    codes = []
    for coarse in COARSE_PARTS:
        mask = np.isin(fine, coarse)
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = {"counts": code["counts"].decode(), "size": [256, 256]}
        codes.append(text if mask.any() else [])
    return codes
