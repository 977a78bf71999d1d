"""The prepare-data command: every reader, resuming, bad input."""

import json
import os
import pathlib
import re
import shutil

import cv2
import numpy as np
import pytest

from metrabs_like.cli import models, prepare_data

from .conftest import run_train

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "own_data.md"


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


def _folder_of_the_docs(folder):
    """Writes the folder that docs/own_data.md shows."""
    skeleton, line = re.findall(r"```json\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    (folder / "images").mkdir(parents=True)
    (folder / "skeleton.json").write_text(skeleton)
    (folder / "annotations.jsonl").write_text(json.dumps(json.loads(line)))
    cv2.imwrite(str(folder / "images" / "a.jpg"), np.full((1080, 1920, 3), 128, np.uint8))
    return folder


def test_the_example_of_the_docs_is_prepared(tmp_path):
    source = _folder_of_the_docs(tmp_path / "mine")
    arguments = ("--dataset=custom", f"--source_dir={source}", "--name=ours", "--licence=CC0")
    assert _prepare(*arguments, f"--output_dir={tmp_path / 'out'}") == 0
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (info["name"], info["licence"], info["kind"]) == ("ours", "CC0", "kp3d")
    assert info["counts"]["n_people_3d"] == info["counts"]["n_people_2d"] == 1


def test_the_example_of_the_docs_trains_with_the_flags_that_are_printed(tmp_path, capsys):
    source, out = _folder_of_the_docs(tmp_path / "mine"), tmp_path / "a+b"
    text = (source / "skeleton.json").read_text()
    (source / "skeleton.json").write_text(text.replace('"suffix": "stick",', ""))
    assert _prepare("--dataset=custom", f"--source_dir={source}", f"--output_dir={out}") == 0
    printed = re.search(r"train with: (.*)", capsys.readouterr().out)[1].split()
    assert printed == [
        f"--sources=kp3d:{out}:32",
        f"--metrabs_skeleton=smpl_24+coco_17+{out}/dataset.json",
    ]
    run, more = tmp_path / "run", ("--train_steps=1", "--metrabs_skeleton=smpl_24+coco_17")
    assert run_train(run, out, *more) == 1
    message = capsys.readouterr().err
    assert "no joint of the model's skeleton" in message and f"add +{out}/dataset.json" in message
    for steps in (1, 2):  # started again, the run goes on
        more = (f"--train_steps={steps}", printed[1], f"--sources=kp3d:{out}:2")
        assert run_train(run, out, *more) == 0
    assert run_train(run, out, *more, "--metrabs_skeleton=smpl_24") == 1
    refused = capsys.readouterr().err
    assert "model.skeleton: smpl_24+coco_17+stick (45 joints) -> smpl_24" in refused
    shutil.rmtree(source), shutil.rmtree(out)
    joints = models.load(str(run)).config.joints
    assert joints.joint_names[-4:] == ("pelv_stick", "neck_stick", "lhan_stick", "rhan_stick")
    assert joints.mirror_indices[-4:] == (41, 42, 44, 43)


def test_nothing_usable_is_a_failure(tmp_path, capsys):
    source, out = _folder_of_the_docs(tmp_path / "mine"), tmp_path / "out"
    (source / "images" / "a.jpg").write_bytes(b"\xff\xd8 cut")
    assert _prepare("--dataset=custom", f"--source_dir={source}", f"--output_dir={out}") == 1
    captured = capsys.readouterr()
    assert "no image can be used (images/a.jpg" in captured.err
    assert "train with" not in captured.out


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
