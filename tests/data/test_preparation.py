import dataclasses
import functools
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import dataset_info, preparation, records
from metrabs_like.data.dataset_info import COUNT_OF_KIND
from metrabs_like.data.readers import custom
from tests.data.custom_folder import write_folder
from tests.data.toy import make_info, make_shard


def write(tasks, folder, info=None, **kwargs):
    kwargs = {"n_processes": 1, "progress": False, **kwargs}
    return preparation.write_dataset(tasks, str(folder), info or make_info(), **kwargs)


def failing_at(shard_index, bad, error):
    if shard_index == bad:
        yield from make_shard(shard_index, n_images=1)
        raise error
    yield from make_shard(shard_index)


def never(shard_index):
    raise AssertionError(f"shard {shard_index} was written already")


def skipping(shard_index):
    yield records.SkippedImage("bad.jpg", "is truncated")
    yield from make_shard(shard_index, n_images=2)


def test_counts_hashes_and_content(tmp_path):
    info = write([make_shard, make_shard], tmp_path)
    assert info.counts == {
        "n_images": 12,
        "n_people": 12,
        "n_people_3d": 12,
        "n_people_2d": 12,
        "n_people_param": 0,
        "n_people_dense": 0,
        "n_people_mask": 0,
        "n_skipped": 0,
    }
    assert records.DatasetInfo.load(str(tmp_path)) == info
    assert sorted(os.listdir(tmp_path)) == [
        "dataset.json",
        "shard-00000-of-00002.tfrecord",
        "shard-00001-of-00002.tfrecord",
    ]
    info.check_files(str(tmp_path), hashes=True)
    stored = list(tf.data.TFRecordDataset(info.shard_paths(str(tmp_path))).as_numpy_iterator())
    expected = [records.encode_record(r) for i in range(2) for r in make_shard(i)]
    parsed = [records.parse_record(s, 5)["points3d"].numpy() for s in stored]
    again = [records.parse_record(s, 5)["points3d"].numpy() for s in expected]
    assert len(parsed) == 12
    for a, b in zip(parsed, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("error", [RuntimeError("power cut"), KeyboardInterrupt()])
def test_a_broken_run_continues_at_the_first_missing_shard(tmp_path, error):
    whole = write([make_shard] * 3, tmp_path / "whole")
    broken = [functools.partial(failing_at, bad=1, error=error)] * 3
    with pytest.raises(type(error)):
        write(broken, tmp_path / "broken")
    names = sorted(os.listdir(tmp_path / "broken"))
    assert names == ["dataset.partial.json", "shard-00000-of-00003.tfrecord"]
    (tmp_path / "broken" / "shard-00001-of-00003.tfrecord.tmp-1").write_bytes(b"left by a kill")
    continued = write([never, make_shard, make_shard], tmp_path / "broken")
    assert continued.counts == whole.counts
    assert len(os.listdir(tmp_path / "broken")) == 4
    assert write([never] * 3, tmp_path / "broken") == continued


def test_only_a_damaged_shard_is_rewritten(tmp_path):
    info = write([make_shard] * 3, tmp_path)
    path = info.shard_paths(str(tmp_path))[1]
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="shard-00001-of-00003.*100 bytes.*prepare_data again"):
        info.check_files(str(tmp_path))
    write([never, make_shard, never], tmp_path).check_files(str(tmp_path), hashes=True)
    with open(path, "r+b") as file:
        file.write(b"x")
    info.check_files(str(tmp_path))
    with pytest.raises(ValueError, match="SHA-256"):
        info.check_files(str(tmp_path), hashes=True)
    os.remove(path)
    with pytest.raises(ValueError, match="missing"):
        info.check_files(str(tmp_path))


def test_another_data_set_is_not_mixed_in(tmp_path):
    write([make_shard], tmp_path)
    with pytest.raises(ValueError, match="its name is 'toy', now asked for 'other'"):
        write([make_shard], tmp_path, make_info(name="other"))


def test_skipped_images_are_counted_and_named(tmp_path):
    info = write([skipping, skipping], tmp_path)
    assert info.counts["n_skipped"] == 2
    assert info.skipped == [["bad.jpg", "is truncated"]] * 2


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    def intruding(shard_index):
        with pytest.raises(ValueError, match="is being written by another process"):
            write([make_shard], tmp_path)
        yield from make_shard(shard_index)

    write([intruding], tmp_path)
    write([never], tmp_path)


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output_dir = .*file.* cannot be written"):
        write([make_shard], tmp_path / "file" / "inside")


def test_zero_tasks_make_an_empty_data_set(tmp_path):
    assert write([], tmp_path).counts["n_images"] == 0


def test_worker_processes_write_the_same_shards(tmp_path):
    write_folder(tmp_path / "source", n_images=3)
    info, tasks = custom.plan(str(tmp_path / "source"), images_per_shard=2)
    alone = write(tasks, tmp_path / "alone", info)
    parallel = write(tasks, tmp_path / "parallel", info, n_processes=2)
    assert [s["sha256"] for s in parallel.shards] == [s["sha256"] for s in alone.shards]


@pytest.mark.slow
def test_a_worker_s_error_arrives_and_finished_shards_stay(tmp_path):
    write_folder(tmp_path / "source", n_images=3, changes={"frame": "nowhere"})
    info, tasks = custom.plan(str(tmp_path / "source"), images_per_shard=2)
    with pytest.raises(ValueError, match="frame = 'nowhere'"):
        write(tasks, tmp_path / "failing", info, n_processes=2)
    assert not list((tmp_path / "failing").glob("*.tmp-*"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist.*prepare_data"),
        ("{", "is not JSON"),
        (json.dumps({"schema_version": 99}), "schema_version = 99"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / dataset_info.FILE_NAME).write_text(content)
    with pytest.raises(ValueError, match=words):
        records.DatasetInfo.load(str(tmp_path))
    with pytest.raises(ValueError, match="kind = 'kp4d'"):
        make_info("kp4d")


@pytest.mark.parametrize(
    ("usable", "expected"),
    [
        (("param", "kp3d", "kp2d"), "kp3d"),
        (("param",), "param"),
        (("dense", "kp2d"), "kp2d"),
        (("dense",), "dense"),
        ((), "kp3d"),
    ],
)
def test_what_a_set_is_measured_with(usable, expected):
    counts = {COUNT_OF_KIND[kind]: 1 for kind in usable}
    assert dataclasses.replace(make_info(), counts=counts).evaluation_kind == expected


def test_shards_of_before_masks_were_counted_are_continued(tmp_path):
    write([make_shard, make_shard], tmp_path)
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    for shard in content["shards"]:
        del shard["n_people_mask"]
    path.write_text(json.dumps(content))
    assert write([make_shard, make_shard], tmp_path).counts["n_people_mask"] == 0
