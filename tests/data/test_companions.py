"""Masks, backgrounds and objects that come along with the windows."""

import cv2
import numpy as np
import pytest

from metrabs_like.data import masks, pipeline, preparation
from metrabs_like.geometry import warping
from tests.data import toy

SIDE = 96


def _make_shard(shard_index):
    """People whose masks are discs around their joints; the last one has none."""
    shard = list(toy.make_shard(shard_index, n_people=(1, 2)))
    for record in shard:
        for person in record.people:
            mask = np.zeros((record.height, record.width), np.uint8)
            for x, y in person.points2d:
                cv2.circle(mask, (round(float(x)), round(float(y))), 9, 255, -1)
            person.mask, person.mask_box = masks.encode_mask(mask, max_side=100)
    person.mask = person.mask_box = None
    return iter(shard)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("masked"))
    preparation.write_dataset([_make_shard], folder, toy.make_info(), n_processes=1, progress=False)
    config = pipeline.PipelineConfig(
        proc_side=SIDE,
        background_probability=0.5,
        objects_probability=0.5,
        n_backgrounds=4,
        n_objects=4,
        shuffle_buffer=4,
    )
    dataset = pipeline.make_train_dataset([f"kp3d:{folder}:27"], config, skeleton=toy.TOY, seed=2)
    return {name: value.numpy() for name, value in next(iter(dataset))["kp3d"].items()}


def test_masks_lie_where_the_people_are(batch):
    warped = warping.warp_images(
        batch["mask"],
        batch["mask_intrinsics"],
        batch["distortion_coeffs"],
        batch["crop_from_camera"],
        batch["intrinsics"],
        SIDE,
        jit_compile=False,
    ).numpy()[..., 0]
    n_checked = 0
    for mask, has_mask, points in zip(
        warped, batch["has_mask"], batch["coords2d_true"], strict=True
    ):
        if not has_mask:
            assert not mask.any()
            continue
        assert mask.mean() < 0.5 * mask.max()
        inside = points[np.all((points > 2) & (points < SIDE - 3), axis=1)]
        for x, y in inside:
            assert mask[round(float(y)), round(float(x))] > 0.95 * mask.max()
            n_checked += 1
    assert n_checked > 50
    assert 0 < batch["has_mask"].sum() < 27  # three rounds of nine people, eight with masks


def test_pictures_of_the_banks_come_complete(batch):
    assert batch["background"].shape == (27, SIDE, SIDE, 3)
    assert batch["object"].shape[0] == 27 and batch["object"].shape[-1] == 4
    different = {picture.tobytes() for picture in batch["background"]}
    assert 1 < len(different) <= 4
    assert np.all(batch["object"][..., 3].max(axis=(1, 2)) > 0)
