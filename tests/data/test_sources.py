import os
import pathlib
import warnings

import pytest

from metrabs_like.data import dataset_info, pipeline, sources
from metrabs_like.data.dataset_info import DatasetInfo, sha256_of_file
from tests.data.toy import TOY, write_toy


def test_probabilities_may_follow_the_count():
    parsed = sources.parse_source("kp3d:C:/x=y/z:4:background=0.7:blur=0")
    expected = sources.SourceConfig("C:/x=y/z", "kp3d", 4, (("background", 0.7), ("blur", 0.0)))
    assert parsed == expected


def test_a_source_replaces_only_what_it_names():
    config = pipeline.PipelineConfig(blur_probability=0.2, jpeg_probability=0.3)
    source = sources.parse_source("kp3d:x:4:blur=0.5")
    found = config.probabilities(source)
    assert (found["blur"], found["jpeg"], found["colour"]) == (0.5, 0.3, 1.0)
    assert set(found) == set(sources.CHANGES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kp3d:x:4:blur=often", "'often' is no number"),
        ("kp3d:x:4:blurr=0.1", "no change 'blurr'"),
        ("kp3d:x:4:blur=1.5", "between 0 and 1"),
        ("kp3d:x:blur=0.5", "KIND:FOLDER:COUNT"),
        ("mesh:x:4", "param, kp3d, dense, kp2d"),
    ],
)
def test_wrong_sources_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        sources.parse_source(text)


def _damaged(tmp_path, how):
    folder = write_toy(tmp_path, n_shards=3)
    path = pathlib.Path(DatasetInfo.load(folder).shard_paths(folder)[1])
    if how == "missing":
        os.remove(path)
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped bit"])
def test_damaged_shards_are_skipped_and_counted_on_request(tmp_path, how):
    folder = _damaged(tmp_path, how)
    config = pipeline.PipelineConfig(proc_side=32, skip_corrupt=True, shuffle_buffer=4)
    with pytest.warns(UserWarning, match=r"1 of 3 shards are skipped.*shard-00001"):
        dataset = pipeline.make_train_dataset([f"kp3d:{folder}:4"], config, skeleton=TOY, seed=0)
    for batch in dataset.take(6):  # twice through what is left
        assert batch["kp3d"]["window"].shape[0] == 4


def test_whole_data_sets_are_not_warned_about(toy_dir):
    source = sources.SourceConfig(toy_dir, "kp3d", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = sources.open_source(source, TOY, skip_corrupt=True)
    assert info == DatasetInfo.load(toy_dir)


def test_shards_are_hashed_once_until_they_change(tmp_path, monkeypatch):
    folder = write_toy(tmp_path, n_shards=3)
    hashed = []

    def sha256(path):
        hashed.append(os.path.basename(path)[:11])
        return sha256_of_file(path)

    monkeypatch.setattr(dataset_info, "sha256_of_file", sha256)
    for kind in ("kp3d", "kp2d"):
        source = sources.SourceConfig(folder, kind, 1)
        assert len(sources.open_source(source, TOY, skip_corrupt=True).shards) == 3
    assert sorted(hashed) == ["shard-00000", "shard-00001", "shard-00002"]
    shard = pathlib.Path(DatasetInfo.load(folder).shard_paths(folder)[1])
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    state = shard.stat()  # as the clock of the disk may be coarse
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    hashed.clear()
    with pytest.warns(sources.ShardsSkipped, match="1 of 3 .*shard-00001.* differs"):
        assert len(sources.open_source(source, TOY, skip_corrupt=True).shards) == 2
    assert hashed == ["shard-00001"]
    # Whoever asks for the shard's name after a failed read gets it read anew.
    with pytest.raises(ValueError, match="shard-00001.* differs"):
        DatasetInfo.load(folder).check_files(folder, hashes=True)
    assert hashed == ["shard-00001", "shard-00000", "shard-00001"]


def test_counts_are_those_of_the_shards_that_are_left(tmp_path):
    folder = _damaged(tmp_path, "missing")
    info, reasons = DatasetInfo.load(folder).without_damaged(folder)
    assert len(info.shards) == 2 and len(reasons) == 1
    assert info.counts["n_images"] == sum(shard["n_images"] for shard in info.shards) == 12


def test_nothing_left_is_an_error(tmp_path):
    folder = write_toy(tmp_path, n_shards=1)
    os.remove(DatasetInfo.load(folder).shard_paths(folder)[0])
    config = pipeline.PipelineConfig(skip_corrupt=True)
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(ValueError, match="no person with a valid kp3d"),
    ):
        pipeline.make_train_dataset([f"kp3d:{folder}:4"], config, skeleton=TOY, seed=0)
