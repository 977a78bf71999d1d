"""What the generator of synthetic people is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Skeleton of the generated labels: the kinematic tree and the keypoints on its surface.
SKELETON_NAME = "smpl_24+coco_17"


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Size and distributions of a synthetic data set.

    Image `i` depends on `seed`, `i` and the distributions alone, not on `n_images`,
    `images_per_shard` or the process that renders it. All defaults are ours.

    Attributes:
      n_images: Number of images, >= 0.
      images_per_shard: Images per file, >= 1.
      image_side: Side of the square images in px, 32 to 2048.
      seed: Seed of the whole set, >= 0; another seed gives other people.
      min_people: Fewest people placed in an image; 0 allows empty images.
      max_people: Most people placed in an image.
      min_distance_m: Nearest distance of the first person, m.
      max_distance_m: Farthest distance of the first person, m.
      min_camera_height_m: Lowest camera above the floor, m.
      max_camera_height_m: Highest camera above the floor, m.
      frontal_fraction: Share of people who face the camera up to `frontal_yaw_degrees`; the others
        face anywhere.
      frontal_yaw_degrees: Largest turn away from the camera of that share.
      truncation_fraction: Share of images in which the image border cuts the people.
      small_fraction: Share of images in which the people fill less than half of the side.
      occluder_fraction: Share of images with an object in front of the people.
      distortion_fraction: Share of images with lens distortion.
      jpeg_quality: Highest JPEG quality; each image gets up to 25 less.
      min_visible_share: People of whom nearer ones and objects leave less than this share to see
        become regions of crowds: a detector is neither trained nor measured on them.
      with_masks: Whether to store a PNG mask of the visible part of each person.
      with_body_parameters: Whether to store each person's parameters of the procedural body model.
      n_surface_points: Visible points of the procedural body's surface to store per person, 0 to
        10000; people of whom less shows get fewer.

    Raises:
      ValueError: if a field is out of its range; the message names it.
    """

    n_images: int = 1000
    images_per_shard: int = 500
    image_side: int = 128
    seed: int = 0
    min_people: int = 1
    max_people: int = 1
    min_distance_m: float = 1.0
    max_distance_m: float = 12.0
    min_camera_height_m: float = 0.5
    max_camera_height_m: float = 2.5
    frontal_fraction: float = 0.8
    frontal_yaw_degrees: float = 75.0
    truncation_fraction: float = 0.15
    small_fraction: float = 0.1
    occluder_fraction: float = 0.1
    distortion_fraction: float = 0.5
    jpeg_quality: int = 92
    min_visible_share: float = 0.0
    with_masks: bool = False
    with_body_parameters: bool = False
    n_surface_points: int = 0

    def __post_init__(self):
        self._check_integers()
        self._check_reals()
        self._check_pairs()

    def _check_integers(self):
        ranges = {
            "n_images": (0, 2**40),
            "images_per_shard": (1, 2**40),
            "image_side": (32, 2048),
            "seed": (0, 2**63 - 1),
            "min_people": (0, 64),
            "max_people": (0, 64),
            "jpeg_quality": (30, 100),
            "n_surface_points": (0, 10000),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            if not is_integer or not low <= value <= high:
                raise ValueError(
                    f"SyntheticConfig.{name} is {value!r}; "
                    f"give a whole number from {low} to {high}."
                )

    def _check_reals(self):
        ranges = {name: (0.0, 1.0) for name in self.__dataclass_fields__ if "fraction" in name}
        ranges["min_visible_share"] = (0.0, 1.0)
        ranges["frontal_yaw_degrees"] = (0.0, 180.0)
        ranges["min_distance_m"] = ranges["max_distance_m"] = (1.0, 50.0)
        ranges["min_camera_height_m"] = ranges["max_camera_height_m"] = (0.1, 5.0)
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(
                    f"SyntheticConfig.{name} is {value!r}; give a number from {low} to {high}."
                )

    def _check_pairs(self):
        for quantity in ("people", "distance_m", "camera_height_m"):
            low, high = getattr(self, f"min_{quantity}"), getattr(self, f"max_{quantity}")
            if low > high:
                raise ValueError(
                    f"SyntheticConfig.min_{quantity} is {low!r}, above max_{quantity} {high!r}; "
                    "raise the one or lower the other."
                )

    @property
    def n_shards(self) -> int:
        """Number of shards; the last one may hold fewer images."""
        return -(-self.n_images // self.images_per_shard)
