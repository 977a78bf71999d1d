"""Pictures of decoded poses."""

import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.systems.metrabs import Config, tiny_config
from metrabs_like.systems.metrabs.drawing import draw


def make_pose(skeleton, rng, side=64):
    return rng.uniform(5, side - 5, (len(skeleton.joint_names), 2)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_draws_on_single_images_and_batches(dtype, rng):
    config = tiny_config()
    pose = make_pose(skeletons.get(config.skeleton), rng)
    image = np.full((64, 64, 3), 0.5 if dtype == np.float32 else 128, dtype)
    single = draw(image, {"coords2d": pose}, config)
    assert single.dtype == np.uint8 and single.shape == (64, 64, 3)
    assert 200 < (single != 128).any(axis=-1).sum()
    batch = draw(np.stack([image, image]), {"coords2d": np.stack([pose, pose * np.nan])}, config)
    np.testing.assert_array_equal(batch[0], single)
    assert (batch[1] == 128).all()
    people = draw(image, {"coords2d": np.stack([pose * np.nan, pose])}, config)
    np.testing.assert_array_equal(people, single)


def test_only_the_first_part_of_a_union_is_drawn(rng):
    union, plain = Config(skeleton="smpl_24+coco_17"), Config(skeleton="smpl_24")
    pose = make_pose(skeletons.get(union.skeleton), rng)
    image = np.zeros((64, 64, 3), np.uint8)
    both = draw(image, {"coords2d": pose}, union)
    np.testing.assert_array_equal(both, draw(image, {"coords2d": pose[:24]}, plain))
    np.testing.assert_array_equal(both, draw(image, {"coords2d": pose}))


def test_empty_batches_and_wrong_point_counts():
    config = Config(skeleton="coco_17")
    none = draw(np.zeros((0, 64, 64, 3), np.uint8), {"coords2d": np.zeros((0, 17, 2))}, config)
    assert none.shape == (0, 64, 64, 3)
    with pytest.raises(ValueError, match="has 5 points.*has 17"):
        draw(np.zeros((64, 64, 3), np.uint8), {"coords2d": np.zeros((5, 2))}, config)
