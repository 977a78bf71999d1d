"""`prepare_data` of data sets in their native layout."""

import json

import pytest

from metrabs_like.cli import prepare_data
from tests.native import agora, behave, scene

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
