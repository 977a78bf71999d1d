"""Pictures of synthetic people, seen by the cameras of other data sets.

The labels in the camera frame stay what they are: another camera at the same optical centre, which
looks the same way, only has other intrinsics, another lens and another size.
"""

import functools

import cv2
import numpy as np

from metrabs_like import skeletons
from metrabs_like.data import masks
from metrabs_like.data.records import Person, Record
from metrabs_like.data.synthetic import SKELETON_NAME, SyntheticConfig, generate_image

IMAGE_SIDE = 512
GREY = 127
_MAX_FOLD_PX = 0.5  # an undistorted pixel that comes back farther off lies where the lens folds


def people(n: int, seed: int, *, n_people: int = 1, image_side: int = IMAGE_SIDE) -> list[Record]:
    """Renders `n` pictures with `n_people` whole people each, with masks and no lens distortion.

    The people stand 2.5 to 5 m away, so that usual cameras see them whole. `points3d` are those of
    `smpl_24+coco_17`; `joints` picks some by name. `body` has the procedural body's parameters.
    """
    config = SyntheticConfig(
        n_images=n,
        image_side=image_side,
        seed=seed,
        min_people=n_people,
        max_people=n_people,
        min_distance_m=2.5,
        max_distance_m=5.0,
        truncation_fraction=0.0,
        small_fraction=0.0,
        occluder_fraction=0.0,
        distortion_fraction=0.0,
        jpeg_quality=100,
        with_masks=True,
        with_body_parameters=True,
    )
    return [generate_image(config, index) for index in range(n)]


def joints(person: Person, names, suffixes=("smpl", "coco")) -> np.ndarray:
    """Returns `[len(names), 3]`, m: a person's joints by bare names (`lhip`).

    Where both joint sets have a name, the first suffix decides.
    """
    skeleton = skeletons.get(SKELETON_NAME)
    known = skeleton.joint_names
    full = [next(f"{n}_{s}" for s in suffixes if f"{n}_{s}" in known) for n in names]
    return np.asarray(person.points3d, np.float64)[[skeleton.index(name) for name in full]]


def image(record: Record) -> np.ndarray:
    """Returns the record's own picture, uint8 `[H, W, 3]`, RGB."""
    encoded = np.frombuffer(record.image_bytes, np.uint8)
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]


def photographed(
    record: Record, intrinsics, distortion_coeffs=None, *, width: int, height: int
) -> np.ndarray:
    """Shows the record's picture as another camera at the same place and of the same view would.

    Args:
      record: of an image without lens distortion.
      intrinsics: `[3, 3]`, px, of the other camera.
      distortion_coeffs: its OpenCV coefficients, 5 or 8 (or more); None is none.
      width: px, of the other camera's picture.
      height: px.

    Returns:
      uint8 `[height, width, 3]`, RGB; grey where the record's picture shows nothing.
    """
    maps = _source_pixels(record, intrinsics, distortion_coeffs, width, height)
    border = (GREY, GREY, GREY)
    return _resampled(image(record), maps, _shrinking(record, intrinsics), border)


def mask_as_seen(
    record: Record, person: Person, intrinsics, distortion_coeffs=None, *, width: int, height: int
) -> np.ndarray:
    """Returns a person's mask as the other camera sees it, uint8 0/255 `[height, width]`."""
    maps = _source_pixels(record, intrinsics, distortion_coeffs, width, height)
    share = _resampled(whole_mask(record, person), maps, _shrinking(record, intrinsics), 0)
    return np.where(share > 127, 255, 0).astype(np.uint8)


def whole_mask(record: Record, person: Person) -> np.ndarray:
    """Returns a person's mask over the whole picture of the record, uint8 0/255 `[H, W]`."""
    if person.mask_box is None:
        encoded = np.frombuffer(person.mask, np.uint8)
        return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    share = masks.decode_mask(person.mask, person.mask_box, record.width, record.height)
    return np.where(share > 127, 255, 0).astype(np.uint8)


def pixels(points3d, intrinsics, distortion_coeffs=None) -> np.ndarray:
    """Projects points `[..., 3]` (m, camera frame) to pixels `[..., 2]`, float64."""
    points3d = np.asarray(points3d, np.float64)
    normalized = points3d[..., :2] / points3d[..., 2:]
    return _to_pixels(_distorted(normalized, distortion_coeffs), intrinsics)


def _source_pixels(record, intrinsics, distortion_coeffs, width, height):
    """For each pixel of the other camera, where the record's picture shows the same; two maps."""
    if np.any(record.distortion_coeffs):
        raise ValueError(f"{record.image_id} has lens distortion; take a picture from people().")
    intrinsics = np.asarray(intrinsics, np.float64)
    coeffs = None if distortion_coeffs is None else tuple(np.ravel(distortion_coeffs).tolist())
    rays = _rays(tuple(intrinsics.ravel().tolist()), coeffs, width, height)
    source = _to_pixels(rays, record.intrinsics)
    return np.moveaxis(np.clip(source, -1e4, 1e4), -1, 0).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _rays(intrinsics, coeffs, width, height):
    """What each pixel of a camera sees, `[height, width, 2]` normalized; far off where it folds."""
    intrinsics = np.reshape(intrinsics, (3, 3))
    seen = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    inverse = np.linalg.inv(intrinsics)
    normalized = _undistorted(seen @ inverse[:2, :2].T + inverse[:2, 2], coeffs)
    back = _to_pixels(_distorted(normalized, coeffs), intrinsics)
    normalized[np.abs(back - seen).max(axis=-1) > _MAX_FOLD_PX] = 1e6
    return normalized


def _shrinking(record, intrinsics):
    """How many pixels of the record's picture fall into one of the other camera's."""
    return float(record.intrinsics[0][0] / np.asarray(intrinsics)[0][0])


def _resampled(picture, maps, shrinking, border):
    """Looks the picture up; blurred first where it shrinks, so that nothing flickers."""
    if shrinking > 1:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.45 * shrinking)
    return cv2.remap(picture, *maps, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, None, border)


def _to_pixels(normalized, intrinsics):
    intrinsics = np.asarray(intrinsics, np.float64)  # OpenCV itself would ignore a skew
    return normalized @ intrinsics[:2, :2].T + intrinsics[:2, 2]


def _distorted(normalized, coeffs):
    if coeffs is None or not np.any(coeffs) or not normalized.size:
        return normalized
    rays = np.concatenate([normalized, np.ones_like(normalized[..., :1])], axis=-1).reshape(-1, 3)
    zero, coeffs = np.zeros(3), np.asarray(coeffs, np.float64)
    return cv2.projectPoints(rays, zero, zero, np.eye(3), coeffs)[0].reshape(normalized.shape)


def _undistorted(distorted, coeffs):
    if coeffs is None or not np.any(coeffs):
        return distorted
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-9)
    coeffs, flat = np.asarray(coeffs, np.float64), distorted.reshape(-1, 1, 2)
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4; 5 has one function for both
        found = cv2.undistortPointsIter(flat, np.eye(3), coeffs, None, None, criteria)
    else:
        found = cv2.undistortPoints(flat, np.eye(3), coeffs, criteria=criteria)
    return np.nan_to_num(found.reshape(distorted.shape), nan=1e6)
