"""The detector's demo: its own pieces, and (slow) the whole way at a tiny size."""

import json
import pathlib

import cv2
import pytest

from metrabs_like.cli import app, demo_centernet, train

ROOT = pathlib.Path(__file__).parents[2]


def report(folder, **metrics):
    path = folder / "evaluation.json"
    path.write_text(json.dumps({"metrics": metrics}))
    return str(path)


def test_numbers_below_what_is_promised_are_named(tmp_path, capsys):
    demo_centernet.check(report(tmp_path, box_ap50=0.6, keypoint_ap=0.25))
    assert "box_ap50 0.600 (promised: 0.6)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="^keypoint_ap on held-out crowds"):
        demo_centernet.check(report(tmp_path, box_ap50=0.7, keypoint_ap=0.1))
    with pytest.raises(ValueError, match="^box_ap50, keypoint_ap on"):
        demo_centernet.check(report(tmp_path, box_ap50=None, keypoint_ap=0.1))


def test_rendered_crowd_is_a_large_picture(tmp_path):
    image = cv2.imread(demo_centernet.render_crowd(str(tmp_path)))
    assert image.shape == (512, 512, 3) and image.std() > 5


def test_missing_photograph_is_named(tmp_path, capsys):
    arguments = [f"--output_dir={tmp_path}", "--image=no_such.jpg"]
    assert demo_centernet.main(["demo", *arguments]) == 1
    assert "--image=no_such.jpg is no file" in capsys.readouterr().err


def test_header_of_the_flagfile_has_the_crowds_of_the_demo(monkeypatch):
    monkeypatch.chdir(ROOT)
    path = "flags/centernet/demo.flags"
    header = (ROOT / path).read_text()
    for field, value in demo_centernet.CROWDS.items():
        if field != "min_people":  # the generator's own
            assert f"--synthetic_{field}={value:g}" in header
    values = app.parse(train.define_flags, ["train", f"--flagfile={path}"])
    assert values.sources == ["kp3d:demo_centernet/train:16"]


@pytest.mark.slow
def test_whole_way_at_a_tiny_size(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(demo_centernet.PROMISED, "box_ap50", 0.0)
    monkeypatch.setitem(demo_centernet.PROMISED, "keypoint_ap", 0.0)
    argv = ["demo", f"--output_dir={tmp_path}", "--n_train=40", "--n_held_out=20"]
    argv.append("--train_flags=train_steps=5,train_warmup_steps=2")
    assert demo_centernet.main(argv) == 0
    printed = capfd.readouterr().out
    assert str(tmp_path / "predicted" / "crowd_people.png") in printed
    content = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert content["n_images"] == 20
    assert demo_centernet.main(argv) == 0
    assert "(0 updates" in capfd.readouterr().out
