"""The predict command with detectors: whose boxes poses take, and masks as files."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import predict
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
