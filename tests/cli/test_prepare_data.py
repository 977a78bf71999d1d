"""The prepare-data command: every reader, resuming, bad input."""

import json
import os

import pytest

from metrabs_like.cli import prepare_data


def _prepare(*arguments):
    return prepare_data.main(["prepare_data", "--n_processes=1", *map(str, arguments)])


def _synthetic(folder, *more):
    return _prepare(
        f"--output_dir={folder}",
        "--synthetic_n_images=6",
        "--synthetic_images_per_shard=3",
        "--synthetic_image_side=64",
        *more,
    )


def test_synthetic_people_are_written_and_counted(tmp_path, capsys):
    assert _synthetic(tmp_path / "out") == 0
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert info["counts"]["n_images"] == 6 and len(info["shards"]) == 2
    printed = capsys.readouterr().out
    assert "6 n_images" in printed and f"--sources=kp3d:{tmp_path / 'out'}:32" in printed


def test_missing_shard_alone_is_written_again(tmp_path):
    folder = tmp_path / "out"
    assert _synthetic(folder) == 0
    first, second = sorted(folder.glob("*.tfrecord"))
    kept, content = os.stat(first).st_mtime_ns, second.read_bytes()
    second.unlink()
    assert _synthetic(folder) == 0
    assert os.stat(first).st_mtime_ns == kept
    assert second.read_bytes() == content


def test_another_data_set_in_the_folder_is_kept(tmp_path, capsys):
    assert _synthetic(tmp_path / "out") == 0
    before = (tmp_path / "out" / "dataset.json").read_bytes()
    assert _synthetic(tmp_path / "out", "--synthetic_seed=5") == 1
    assert "another data set" in capsys.readouterr().err
    assert (tmp_path / "out" / "dataset.json").read_bytes() == before


def test_hand_written_folder_through_its_reader(tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    import cv2
    import numpy as np

    cv2.imwrite(str(source / "a.png"), np.full((48, 64, 3), 128, np.uint8))
    joints = {"pelv": [32, 24], "neck": [32, 10]}
    line = {"image": "a.png", "fov_degrees": 60, "people": [{"points2d_px": joints}]}
    (source / "annotations.jsonl").write_text(json.dumps(line) + "\n")
    code = _prepare(
        "--dataset=custom",
        f"--source_dir={source}",
        "--skeleton=smpl_24",
        "--name=mine",
        f"--output_dir={tmp_path / 'out'}",
    )
    assert code == 0
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert info["name"] == "mine" and info["counts"]["n_people_2d"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "--output_dir is missing"),
        (["--dataset=coco", "--output_dir=OUT"], 1, "--source_dir is missing"),
        (["--dataset=coco", "--output_dir=OUT", "--source_dir=OUT/none"], 1, "is no folder"),
        (["--dataset=cocoo", "--output_dir=OUT"], 2, "synthetic"),
        (["--output_dir=OUT", "--synthetic_n_image=3"], 2, "synthetic_n_images"),
        (["--output_dir=OUT", "--synthetic_image_side=3"], 1, "image_side is 3"),
        (["--output_dir=OUT/file/below"], 1, "cannot be written"),
    ],
)
def test_bad_input_is_named(arguments, code, message, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    assert _prepare(*arguments) == code
    assert message in capsys.readouterr().err
