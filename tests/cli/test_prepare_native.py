"""`prepare_data` of data sets in their native layout."""

import json

import pytest

from metrabs_like.cli import prepare_data
from tests.native import agora, behave, coco, scene

WRITERS = {"agora3": agora, "behave": behave}
OTHER_SPLIT = {"agora3": "validation", "behave": "test"}


@pytest.mark.parametrize("dataset", sorted(WRITERS))
def test_splits_fits_and_progress(tmp_path, capfd, dataset):
    source, other = tmp_path / "source", OTHER_SPLIT[dataset]
    made = scene.people(2, 5, image_side=256)
    WRITERS[dataset].write(source, made[:1])
    options = {"sequence": "Date03_Sub01_b"} if dataset == "behave" else {}
    WRITERS[dataset].write(source, made[1:], split=other, **options)
    command = ["prepare_data", f"--dataset={dataset}", f"--source_dir={source}"]
    command += ["--n_processes=1", "--body_model=procedural"]
    assert prepare_data.main([*command, f"--output_dir={tmp_path / 'a'}"]) == 0
    printed = capfd.readouterr()
    info = json.loads((tmp_path / "a" / "dataset.json").read_text())
    n_images = info["counts"]["n_images"]
    assert n_images == (1 if dataset == "agora3" else 3)
    assert info["counts"]["n_people_param"] == n_images and info["kind"] == "param"
    assert f"{n_images} examples of about {info['expected']}" in printed.out
    assert "examples/s" in printed.err
    command += [f"--split={other}", "--nofits", "--noprogress"]
    assert prepare_data.main([*command, f"--output_dir={tmp_path / 'b'}"]) == 0
    info = json.loads((tmp_path / "b" / "dataset.json").read_text())
    assert (info["name"], info["kind"]) == (f"{dataset}_{other}", "kp3d")
    assert info["counts"]["n_people_param"] == 0


def test_one_of_several_coco_files_is_read_in_part(tmp_path, capsys):
    source, out = tmp_path / "coco", tmp_path / "out"
    made = scene.people(3, 5, image_side=64)
    coco.write(source, made)
    coco.write(source, made[:1], pictures="train2017")
    command = ["prepare_data", "--dataset=coco", f"--source_dir={source}", "--n_processes=1"]
    command += [f"--output_dir={out}", "--max_images=2"]
    assert prepare_data.main(command) == 1
    assert "2 annotation files match" in capsys.readouterr().err
    assert prepare_data.main([*command, "--annotations=person_keypoints_val2017.json"]) == 0
    assert "dropped 1: images: more than max_images" in capsys.readouterr().out
    info = json.loads((out / "dataset.json").read_text())
    assert info["name"] == "coco_val2017" and info["counts"]["n_images"] == 2
