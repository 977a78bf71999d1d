"""The demo's own pieces, and (slow) the whole way at a tiny size."""

import json
import os

import cv2
import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.cli import demo


def test_astronaut_is_the_photograph_where_none_is_named(tmp_path):
    image = cv2.imread(demo.photograph_path("", str(tmp_path)))
    assert image.shape == (512, 512, 3)
    # The orange suit: more red than blue where the chest is, so that the channels are in order.
    chest = image[350:450, 200:300].reshape(-1, 3).mean(axis=0)
    assert chest[2] > chest[0] + 20


def test_named_photograph_is_taken_and_a_missing_one_is_named(tmp_path):
    path = tmp_path / "me.jpg"
    path.write_bytes(b"")
    assert demo.photograph_path(str(path), str(tmp_path)) == str(path)
    with pytest.raises(ValueError, match="no_such.jpg is no file"):
        demo.photograph_path("no_such.jpg", str(tmp_path))


def test_comparison_uses_the_joints_that_were_predicted(tmp_path, rng):
    true = rng.normal(size=(41, 3)) + [0, 0, 4]
    part = list(skeletons.components(skeletons.get("smpl_24+coco_17"))["coco_17"])
    predicted = true[part] * 1000 + [0, 0, 500]
    content = {"skeleton": "coco_17", "people": [{"joints3d_mm": predicted.tolist()}]}
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(content))
    found = demo.compare(str(path), true)
    np.testing.assert_allclose(found["mpjpe_mm"], 0, atol=1e-6)
    np.testing.assert_allclose(found["absolute_error_mm"], 500, rtol=1e-6)
    difference = found["predicted_distance_m"] - found["true_distance_m"]
    np.testing.assert_allclose(difference, 0.5, rtol=1e-6)


def test_failing_step_stops_the_demo_and_keeps_its_message(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    (tmp_path / "train").write_text("in the way")
    code = demo.main(["demo", f"--output_dir={tmp_path}", "--n_train=1", "--n_held_out=1"])
    assert code == 1
    message = capfd.readouterr().err
    assert "cannot be written" in message and "metrabs-like-prepare-data ended" in message


@pytest.mark.slow
def test_whole_way_at_a_tiny_size(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    argv = ["demo", f"--output_dir={tmp_path}", "--n_train=60", "--n_held_out=20"]
    argv.append("--train_flags=train_steps=5,train_warmup_steps=2")
    assert demo.main(argv) == 0
    printed = capfd.readouterr().out
    for name in ("rendered/rendered_overlay.png", "photograph/astronaut_overlay.png"):
        assert str(tmp_path / name) in printed and (tmp_path / name).stat().st_size > 1000
    content = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert content["n_people"] == 20 and content["baseline"]["n_training_people"] == 60
    assert demo.main(argv) == 0
    assert "(0 updates" in capfd.readouterr().out
