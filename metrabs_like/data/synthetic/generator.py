"""Images of synthetic people with exact labels, as records.

Conventions: labels are in the camera frame (x right, y down, z forward, m) and in pixels of the
distorted image (pixel (0, 0) = centre of the top-left pixel).
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from metrabs_like.data.masks import encode_mask
from metrabs_like.data.records import Person, Record
from metrabs_like.data.synthetic.background import cast_shadow, sample_background, sample_occluder
from metrabs_like.data.synthetic.body_model import body_parameters
from metrabs_like.data.synthetic.camera import Camera
from metrabs_like.data.synthetic.config import SyntheticConfig
from metrabs_like.data.synthetic.photo import encoded_jpeg, photographed
from metrabs_like.data.synthetic.rendering import (
    OCCLUDER,
    SUPERSAMPLING,
    paint_people,
    sample_light,
)
from metrabs_like.data.synthetic.scene import PlacedPerson, Scene, sample_scene
from metrabs_like.data.synthetic.surface_labels import visible_surface_points

DATASET_NAME = "synthetic"
#: People of whom fewer image pixels show are not annotated.
_MIN_VISIBLE_PX = 12.0
_MIN_BOX_PX = 4.0
#: Tells the random numbers of surface points from those of the image.
_LABEL_STREAM = 1


def generate_shard(config: SyntheticConfig, shard_index: int) -> Iterator[Record]:
    """Renders the images of one shard.

    Args:
      config: Size, seed and distributions.
      shard_index: 0 to `config.n_shards` - 1.

    Yields:
      Records in the order of their global index.

    Raises:
      ValueError: if there is no such shard.
    """
    if not 0 <= shard_index < config.n_shards:
        raise ValueError(
            f"shard_index is {shard_index!r}; the set has shards 0 to {config.n_shards - 1}."
        )
    cv2.setNumThreads(1)  # the processes are the parallelism
    first = shard_index * config.images_per_shard
    for index in range(first, min(first + config.images_per_shard, config.n_images)):
        yield generate_image(config, index)


def generate_image(config: SyntheticConfig, index: int) -> Record:
    """Renders one image.

    A box is the smallest one around the person's projected surface, cut at the image border, as if
    nobody stood in front. `occlusion` is the share of the silhouette inside the image that nearer
    people or objects hide; the mask is what remains visible. All points are annotated in 3D and 2D,
    also hidden ones and those outside the image.

    Args:
      config: Seed and distributions.
      index: Global index of the image, >= 0; with the seed it determines the image.

    Returns:
      The record; people with next to nothing in view are left out, those with less than
      `config.min_visible_share` are regions of crowds.
    """
    rng = np.random.default_rng([config.seed, index])
    scene = sample_scene(rng, config)
    canvas, areas = _painted(rng, config, scene)
    side = config.image_side
    identities = cv2.extractChannel(canvas, 3)
    people, crowds = [], []
    for number, area in enumerate(areas):
        # A generator of their own: labels never change the images.
        label_seed = [config.seed, index, number, _LABEL_STREAM]
        annotated = _annotated(scene, identities, number, area, config, label_seed)
        if annotated is None:
            continue
        if 1.0 - annotated.occlusion < config.min_visible_share:
            crowds.append(annotated.box)
        else:
            people.append(annotated)
    picture = photographed(rng, _composed(rng, config, scene, canvas, identities))
    return Record(
        image_bytes=encoded_jpeg(rng, picture, config.jpeg_quality),
        height=side,
        width=side,
        image_id=f"{config.seed}-{index:08d}",
        dataset=DATASET_NAME,
        intrinsics=scene.camera.intrinsics.astype(np.float32),
        distortion_coeffs=scene.camera.distortion_coeffs.astype(np.float32),
        extrinsics=scene.camera.extrinsics.astype(np.float32),
        people=people,
        crowd_boxes=np.reshape(crowds, (-1, 4)),
    )


def _painted(rng, config, scene: Scene):
    """The canvas with all people and objects in front, and the silhouettes' areas."""
    canvas_side = config.image_side * SUPERSAMPLING
    canvas = np.zeros((canvas_side, canvas_side, 4), dtype=np.uint8)
    areas = paint_people(canvas, scene, sample_light(rng, scene.camera))
    if rng.random() < config.occluder_fraction:
        corners, colour = sample_occluder(rng, config.image_side)
        corners = np.rint(corners * SUPERSAMPLING * 16).astype(np.int32)
        cv2.fillConvexPoly(canvas, corners, (*colour, OCCLUDER), cv2.LINE_8, 4)
    return canvas, areas


def _annotated(scene: Scene, identities, number, area, config, label_seed) -> Person | None:
    """Labels of one person, None if too little of them is in the image."""
    person, camera, side = scene.people[number], scene.camera, config.image_side
    is_visible = cv2.compare(identities, number + 1, cv2.CMP_EQ)
    n_visible = cv2.countNonZero(is_visible)
    x, y = scene.views[number].pixels[person.outfit.is_shown_vertex].T.copy()
    corners = np.array([(x.min(), y.min()), (x.max(), y.max())])
    low, high = np.minimum(np.maximum(corners, -0.5), side - 0.5)
    if n_visible < _MIN_VISIBLE_PX * SUPERSAMPLING**2 or (high - low).min() < _MIN_BOX_PX:
        return None
    points3d = camera.world_to_camera(person.to_world(person.posed.points))
    body, surface = _body_labels(person, camera, is_visible, config, label_seed)
    is_valid = np.ones(len(points3d), dtype=bool)
    mask, mask_box = _encoded_mask(is_visible, side) if config.with_masks else (None, None)
    return Person(
        box=np.concatenate([low, high - low]).astype(np.float32),
        points3d=points3d.astype(np.float32),
        validity3d=is_valid,
        points2d=camera.camera_to_image(points3d).astype(np.float32),
        validity2d=is_valid.copy(),
        mask=mask,
        mask_box=mask_box,
        occlusion=float(1.0 - n_visible / area),
        body=body,
        surface=surface,
    )


def _body_labels(person: PlacedPerson, camera: Camera, is_visible, config, seed):
    """Body parameters and surface points, each None where it is not wanted."""
    if not (config.with_body_parameters or config.n_surface_points):
        return None, None
    rotation = camera.extrinsics[:3, :3] @ person.rotation
    shift = camera.world_to_camera(person.translation)
    camera_from_body = np.concatenate([rotation, shift[:, np.newaxis]], axis=1)
    parameters = body_parameters(person.body, person.pose, camera_from_body)
    surface = None
    if config.n_surface_points:
        rng = np.random.default_rng(seed)
        surface = visible_surface_points(
            rng, parameters, camera, is_visible, config.n_surface_points
        )
    return parameters if config.with_body_parameters else None, surface


def _encoded_mask(is_visible, side):
    """The pixels that are mostly visible, encoded; a corner decides between equal halves."""
    share = cv2.resize(is_visible, (side, side), interpolation=cv2.INTER_AREA)
    corner = is_visible[::SUPERSAMPLING, ::SUPERSAMPLING] > 0
    return encode_mask(np.where(corner, share >= 128, share > 128))


def _composed(rng, config, scene, canvas, identities):
    """People in front of a background, at the image's resolution."""
    side = config.image_side
    picture = sample_background(rng, scene.camera, side, scene.depth)
    pieces = [p.to_world(p.posed.points[_SHADOWING]) for p in scene.people]
    cast_shadow(picture, scene.camera, np.reshape(pieces, (-1, 3, 3)), rng.uniform(0.0, 0.6))
    # The canvas is black where nobody is, so its average is already weighted by their share.
    alpha = cv2.compare(identities, 0, cv2.CMP_NE)
    painted = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA)
    # Creases: brightness that varies over the people as no flat face does.
    crease = rng.standard_normal((30, 30), dtype=np.float32) * np.float32(rng.uniform(0.0, 0.12))
    crease = cv2.resize(crease + 1.0, (side, side), interpolation=cv2.INTER_LINEAR)
    picture *= cv2.cvtColor(1.0 - alpha * np.float32(1 / 255), cv2.COLOR_GRAY2RGB)
    people = cv2.cvtColor(painted, cv2.COLOR_RGBA2RGB) * cv2.cvtColor(crease, cv2.COLOR_GRAY2RGB)
    return picture + people


#: Joints of smpl_24 whose hulls shade the floor: both feet and the hips.
_SHADOWING = np.array([[7, 10, 10], [8, 11, 11], [0, 1, 2]])
