"""The predict command with detectors: whose boxes poses take, and masks as files."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import demo_centernet, export, predict
from metrabs_like.cli.estimators import DEFAULT_PRESETS
from metrabs_like.data.synthetic import SyntheticConfig, generate_image
from metrabs_like.systems import centernet, metrabs

CONFIG = dataclasses.replace(centernet.tiny_config(), segmentation="1x1", seg_channels=4)
EVERYONE = ("--detector_threshold=0", "--detector_nms_iou_threshold=1")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A detector with masks that finds `top_k` people anywhere, as large as half the input."""
    tf.keras.utils.set_random_seed(3)
    model = centernet.build_model(CONFIG)
    model.get_layer("wh.2").bias.assign([8.0, 8.0])
    folder = tmp_path_factory.mktemp("presets") / "untrained"
    centernet.save_preset(folder, model, CONFIG)
    return str(folder)


@pytest.fixture(scope="module")
def pose_model(tmp_path_factory):
    """A small untrained model of poses in boxes."""
    config = metrabs.Config(proc_side=64, stride=16, width=0.25)
    folder = tmp_path_factory.mktemp("presets") / "poses"
    metrabs.save_preset(folder, metrabs.build_model(config), config)
    return str(folder)


def call(image, folder, *options):
    """Runs the command on a picture in this process; returns the parsed JSON file."""
    path = str(folder / "photo.png")
    cv2.imwrite(path, image)
    arguments = [f"--image={path}", f"--output_dir={folder}", *options]
    assert predict.main(["predict", *arguments]) == 0
    (report,) = folder.glob("*.json")
    return json.loads(report.read_text())


def test_boxes_for_poses_in_a_long_photograph_are_in_it(untrained, pose_model, tmp_path):
    """Of the black bars beside it comes no box, which would end the command."""
    image = np.full((30, 1200, 3), 128, np.uint8)
    models = (f"--model={pose_model}", f"--detector={untrained}")
    content = call(image, tmp_path, *models, *EVERYONE, "--num_aug=1")
    for person in content["people"]:
        x, y, width, height = person["box_xywh_px"]
        assert x < 1200 and y < 30 and min(x + width, y + height, width, height) > 0


def test_boxes_for_poses_come_from_the_shipped_detector(pose_model, tmp_path, capsys):
    """Without --boxes and --detector; the crowd was never seen."""
    config = SyntheticConfig(seed=8_000_003, **demo_centernet.CROWDS | {"min_people": 3})
    crowd = np.frombuffer(generate_image(config, 0).image_bytes, np.uint8)
    image = cv2.imdecode(crowd, cv2.IMREAD_COLOR)
    content = call(image, tmp_path, f"--model={pose_model}", "--num_aug=1")
    assert f"found by the detector {DEFAULT_PRESETS['centernet']}" in content["box_source"]
    assert "found by the detector" in capsys.readouterr().out
    assert 1 <= len(content["people"]) <= 4
    for person in content["people"]:
        assert len(person["joints3d_mm"]) == 17
        assert max(person["box_xywh_px"][2:]) > 20  # of a person, in a picture of 160 px


def test_masks_are_files(untrained, tmp_path, rng):
    """Of the network in this process and of its export, and those that `detect` tells."""
    image = rng.integers(0, 256, size=(48, 72, 3), dtype=np.uint8)
    exported = tmp_path / "exported"
    assert export.main(["export", f"--model={untrained}", f"--output_dir={exported}"]) == 0
    loaded = tf.saved_model.load(str(exported / "saved_model"))
    everyone = {"detector_threshold": 0.0, "detector_nms_iou_threshold": 1.0}
    expected = loaded.detect(image[np.newaxis, ..., ::-1], **everyone)["masks"][0].numpy()
    assert len(expected) >= 4 and expected.any() and not expected.all()
    for model in (untrained, exported):
        folder = tmp_path / ("run" if model == untrained else "saved")
        folder.mkdir()
        content = call(image, folder, f"--model={model}", *EVERYONE)
        assert len(content["people"]) == len(expected)
        assert len(list(folder.glob("photo_mask_*.png"))) == len(expected)
        names = [f"photo_mask_{number}.png" for number in range(len(expected))]
        assert content["mask_files"] == names
        for number, mask in enumerate(expected):
            levels = cv2.imread(str(folder / f"photo_mask_{number}.png"))
            assert levels.shape == (48, 72, 3) and set(np.unique(levels)) <= {0, 255}
            assert ((levels[..., 0] > 0) != mask).mean() < 0.01  # at edges one may round otherwise
