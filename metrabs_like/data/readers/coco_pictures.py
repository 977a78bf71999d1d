"""The pictures of COCO-like data sets as records.

Conventions: COCO knows no cameras: intrinsics are those of a pinhole camera with a field of view of
55 degrees along the longer side of the image (the default of the released MeTRAbs models) and the
principal point in the middle. That is right for the 2D supervision these sets give, up to the true
field of view.
"""

import functools
import os
from collections.abc import Callable, Iterator

import numpy as np

from metrabs_like.data import image_files, records
from metrabs_like.data.cameras import intrinsics_from_fov
from metrabs_like.data.readers import coco_masks
from metrabs_like.data.readers.coco_annotations import CocoImage, CocoPerson

DEFAULT_FOV_DEGREES = 55.0


def shard_tasks(
    source_dir: str,
    folder: str,
    dataset: str,
    images: list[CocoImage],
    *,
    images_per_shard: int,
    seed: int,
    surface: Callable[[CocoPerson], records.SurfacePoints | None] = lambda person: None,
    ids_are_numbers: bool = False,
) -> list[Callable]:
    """Shuffles images over shards.

    Args:
      source_dir: the COCO folder.
      folder: of the pictures in it.
      dataset: name to store.
      images: with the people to store.
      images_per_shard: pictures per shard.
      seed: of the shuffling.
      surface: a picklable function that gives a person's surface points.
      ids_are_numbers: whether records have COCO's numbers as image ids, and not file names.

    Returns:
      One task a shard for `preparation.write_dataset`.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    images = [images[i] for i in order]
    shards = [images[i : i + images_per_shard] for i in range(0, len(images), images_per_shard)]
    read = functools.partial(_read_shard, source_dir, folder, dataset, surface, ids_are_numbers)
    return [functools.partial(read, shard) for shard in shards]


def _read_shard(
    source_dir, folder, dataset, surface, ids_are_numbers, images, shard_index
) -> Iterator[records.Record | records.SkippedImage]:
    """Yields the records of one shard."""
    del shard_index
    for image in images:
        name, path = _picture_path(source_dir, folder, image)
        try:
            image_bytes, header = _read_picture(path, image)
        except image_files.UnusableImage as reason:
            yield records.SkippedImage(name, str(reason))
            continue
        yield records.Record(
            image_bytes=image_bytes,
            height=header.height,
            width=header.width,
            image_id=str(image.image_id) if ids_are_numbers else name,
            dataset=dataset,
            intrinsics=intrinsics_from_fov(DEFAULT_FOV_DEGREES, header.width, header.height),
            people=[_person(person, image, surface) for person in image.people],
            crowd_boxes=np.reshape(image.crowd_boxes, (-1, 4)),
        )


def _person(person, image, surface):
    """A person with 2D points; COCO has no 3D."""
    n_joints = len(person.keypoints)
    mask, mask_box = coco_masks.encoded_mask(person.segmentation, image.width, image.height)
    return records.Person(
        box=person.box,
        points3d=np.zeros((n_joints, 3), np.float32),
        validity3d=np.zeros(n_joints, bool),
        points2d=person.keypoints[:, :2],
        validity2d=person.visibility > 0,
        mask=mask,
        mask_box=mask_box,
        surface=surface(person),
        area=person.area,
    )


def _picture_path(source_dir: str, folder: str, image: CocoImage) -> tuple[str, str]:
    """Finds a picture, also where the file is named the 2014 way and its annotation is not.

    Args:
      source_dir: the COCO folder.
      folder: of the pictures, `train2014` ...
      image: whose file.

    Returns:
      `(name, path)`: the path relative to the source folder, and the whole one.

    Raises:
      ValueError: if the name leads out of the folder.
    """
    name = f"{folder}/{image.file_name}"
    path = image_files.confined_path(source_dir, name)
    if not os.path.exists(path) and folder.endswith("2014"):
        other = f"{folder}/COCO_{folder}_{image.image_id:012d}.jpg"
        other_path = image_files.confined_path(source_dir, other)
        if os.path.exists(other_path):
            return other, other_path
    return name, path


def _read_picture(path: str, image: CocoImage):
    """Reads a picture and compares its size with the annotated one.

    Returns:
      The bytes and the header, as `image_files.read_image`.

    Raises:
      image_files.UnusableImage: with the reason.
    """
    image_bytes, header = image_files.read_image(path)
    if (header.width, header.height) != (image.width, image.height):
        raise image_files.UnusableImage(
            f"has {header.width} x {header.height} px, its annotation says "
            f"{image.width} x {image.height}"
        )
    return image_bytes, header
