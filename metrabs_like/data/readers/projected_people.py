"""People whose 3D joints are known in a calibrated camera, as records' persons.

Conventions: metres in the camera frame, pixels of the (distorted) picture. 2D points are
projections of the 3D ones, valid in front of the camera and inside the picture. The box is that of
the projected joints, 1.1 times as large, cut to the picture; `united_box` adds what the mask shows.
"""

import cv2
import numpy as np

from metrabs_like.data import records

BOX_FACTOR = 1.1
_MIN_DEPTH_M = 0.1


def project(points3d, intrinsics, distortion_coeffs, max_radius: float = np.inf):
    """Projects camera-frame points.

    Args:
      points3d: float `[P, 3]`, m; NaN where unknown.
      intrinsics: `[3, 3]`, px.
      distortion_coeffs: `[12]`, OpenCV order.
      max_radius: normalized radius up to which the lens model holds (`geometry.lens.fold_radius`).

    Returns:
      `(points2d [P, 2], is_seen [P])`: zeros where a point is unknown, behind the camera or beyond
      the radius.
    """
    points3d = np.asarray(points3d, np.float64)
    is_known = np.isfinite(points3d).all(axis=-1)
    is_seen = is_known & (np.where(is_known, points3d[:, 2], 0.0) > _MIN_DEPTH_M)
    normalized = np.zeros((len(points3d), 2))
    normalized[is_seen] = points3d[is_seen, :2] / points3d[is_seen, 2:]
    is_seen &= np.linalg.norm(normalized, axis=-1) < max_radius
    points2d = np.zeros((len(points3d), 2))
    if is_seen.any():
        rays = np.concatenate([normalized[is_seen], np.ones((is_seen.sum(), 1))], axis=-1)
        zero, camera = np.zeros(3), np.asarray(intrinsics, np.float64)
        coeffs = np.asarray(distortion_coeffs, np.float64)
        points2d[is_seen] = cv2.projectPoints(rays, zero, zero, camera, coeffs)[0][:, 0]
    return points2d, is_seen


def person_seen(points3d, validity3d, points2d, is_seen, width, height) -> records.Person | None:
    """Makes a person.

    Args:
      points3d: float `[P, 3]`, m, camera frame.
      validity3d: bool `[P]`.
      points2d: float `[P, 2]`, px.
      is_seen: bool `[P]`, which of them have a projection.
      width: of the picture, px.
      height: px.

    Returns:
      The person; None if no joint is inside the picture or the box is empty.
    """
    size = np.array([width, height])
    is_seen = is_seen & np.isfinite(points2d).all(axis=-1)
    points2d = np.where(is_seen[:, np.newaxis], points2d, 0.0)
    is_inside = is_seen & ((points2d > -0.5) & (points2d < size - 0.5)).all(axis=-1)
    if not is_inside.any():
        return None
    low, high = points2d[is_seen].min(axis=0), points2d[is_seen].max(axis=0)
    middle, half = (low + high) / 2, BOX_FACTOR * (high - low) / 2
    low, high = np.maximum(middle - half, -0.5), np.minimum(middle + half, size - 0.5)
    if (high - low).min() < 1:
        return None
    return records.Person(
        box=np.concatenate([low, high - low]).astype(np.float32),
        points3d=np.where(validity3d[:, np.newaxis], points3d, 0.0).astype(np.float32),
        validity3d=validity3d,
        points2d=points2d.astype(np.float32),
        validity2d=is_inside,
    )


def united_box(box, mask_box, width, height) -> np.ndarray:
    """Unites a person's box with that of their mask: heads reach above the joints.

    Args:
      box: float `[4]`, px.
      mask_box: float `[4]`, px; None where there is no mask.
      width: of the picture, px.
      height: px.

    Returns:
      float32 `[4]`, px, inside the picture.
    """
    if mask_box is None:
        return np.asarray(box, np.float32)
    low = np.minimum(box[:2], mask_box[:2])
    high = np.maximum(box[:2] + box[2:], mask_box[:2] + mask_box[2:])
    low, high = np.maximum(low, -0.5), np.minimum(high, [width - 0.5, height - 0.5])
    return np.concatenate([low, high - low]).astype(np.float32)


def shards_of(pictures: list, images_per_shard: int, seed: int) -> list[list]:
    """Shuffles pictures over shards of at most so many."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    pictures = [pictures[i] for i in order]
    return [pictures[i : i + images_per_shard] for i in range(0, len(pictures), images_per_shard)]
