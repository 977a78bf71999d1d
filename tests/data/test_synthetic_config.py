"""The synthetic config and the reader that plans its shards."""

import dataclasses
import pickle

import numpy as np
import pytest

from metrabs_like.data import preparation, records
from metrabs_like.data.readers import synthetic as reader
from metrabs_like.data.synthetic import SKELETON_NAME, SyntheticConfig, generate_shard
from metrabs_like.skeletons import Skeleton, get


@pytest.mark.parametrize(
    "n_images, images_per_shard, n_shards", [(0, 5, 0), (5, 5, 1), (6, 5, 2), (1, 500, 1)]
)
def test_number_of_shards(n_images, images_per_shard, n_shards):
    config = SyntheticConfig(n_images=n_images, images_per_shard=images_per_shard)
    assert config.n_shards == n_shards


@pytest.mark.parametrize(
    "field, value",
    [
        ("n_images", -1),
        ("n_images", 2.5),
        ("images_per_shard", 0),
        ("image_side", 8),
        ("image_side", True),
        ("seed", -3),
        ("jpeg_quality", 101),
        ("frontal_fraction", 1.5),
        ("truncation_fraction", float("nan")),
        ("frontal_yaw_degrees", 200.0),
        ("min_distance_m", 0.2),
        ("max_distance_m", 3000.0),
        ("min_people", 3),
        ("min_camera_height_m", 2.8),
        ("min_visible_share", 1.1),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=rf"SyntheticConfig.{field} is {value!r}"):
        SyntheticConfig(**{"n_images": 3, field: value})


def test_config_is_frozen_and_keyword_only():
    config = SyntheticConfig(n_images=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 2
    with pytest.raises(TypeError):
        SyntheticConfig(3)
    assert hash(config) == hash(SyntheticConfig(n_images=3))


def test_unknown_shard():
    with pytest.raises(ValueError, match="shard_index is 2.*0 to 1"):
        next(generate_shard(SyntheticConfig(n_images=6, images_per_shard=3), 2))


def test_plan_is_picklable_and_described():
    info, tasks = reader.plan(SyntheticConfig(n_images=5, images_per_shard=2, image_side=64))
    assert len(tasks) == 3 and info.kind == "kp3d" and info.source["seed"] == 0
    assert Skeleton.from_dict(info.skeleton) == get(SKELETON_NAME)
    task = pickle.loads(pickle.dumps(tasks[2]))
    (record,) = list(task(2))
    assert record.image_id == "0-00000004"


def test_records_survive_writing(tmp_path):
    config = SyntheticConfig(n_images=4, images_per_shard=2, min_people=0, max_people=2)
    info, tasks = reader.plan(config)
    written = preparation.write_dataset(tasks, str(tmp_path), info, n_processes=1, progress=False)
    assert written.counts["n_images"] == 4
    (first, _) = generate_shard(config, 0)
    parsed = records.parse_record(records.encode_record(first), n_points=41)
    assert parsed["points3d"].shape == (len(first.people), 41, 3)
    for row, person in zip(parsed["points3d"].numpy(), first.people, strict=True):
        np.testing.assert_array_equal(row, person.points3d)
