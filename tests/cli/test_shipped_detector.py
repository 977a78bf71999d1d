"""The detector that ships: what its card says, in both TensorFlow lanes."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import demo_centernet, evaluate, prepare_data
from metrabs_like.cli.estimators import DEFAULT_PRESETS
from metrabs_like.data.synthetic import SyntheticConfig, generate_image
from metrabs_like.geometry.boxes import pairwise_iou
from metrabs_like.systems import centernet

PRESET = DEFAULT_PRESETS["centernet"]
FOLDER = pathlib.Path(centernet.__file__).parent / "presets" / PRESET
MAX_BYTES = 6_000_000
SEED = 7_000_003


def test_weights_are_small_and_those_of_the_card():
    weights = (FOLDER / "model.weights.h5").read_bytes()
    assert len(weights) <= MAX_BYTES
    assert hashlib.sha256(weights).hexdigest() in (FOLDER / "MODEL_CARD.md").read_text()


@pytest.fixture(scope="module")
def crowds(tmp_path_factory):
    """Rendered crowds that no training saw."""
    folder = tmp_path_factory.mktemp("detector")
    crowds = (f"--synthetic_{name}={value}" for name, value in demo_centernet.CROWDS.items())
    prepared = ["--synthetic_n_images=60", f"--synthetic_seed={SEED}", "--n_processes=1", *crowds]
    assert prepare_data.main(["prepare_data", *prepared, f"--output_dir={folder / 'data'}"]) == 0
    return folder / "data"


def evaluated(crowds, folder, *arguments):
    paths = [f"--model={PRESET}", f"--dataset={crowds}", f"--output_dir={folder}"]
    assert evaluate.main(["evaluate", *paths, *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def metrics(crowds, tmp_path_factory):
    folder = evaluated(crowds, tmp_path_factory.mktemp("evaluated"))
    return json.loads((folder / "evaluation.json").read_text())["metrics"]


@pytest.mark.parametrize(
    ("arguments", "input_side"),
    [(["--keep_resolution"], 0), (["--test_scales=1.5"], 192)],
)
def test_evaluation_at_other_sizes_finds_whom_detect_finds(crowds, tmp_path, arguments, input_side):
    """Images of 160 px at inputs of 192 px; that of training has 128 px."""
    folder = evaluated(crowds, tmp_path, *arguments)
    found = {}
    for row in json.loads((folder / "results.json").read_text()):
        found.setdefault(row["image_id"], []).append(row["bbox"])
    predictor = centernet.make_predictor(*centernet.load_preset(PRESET))
    config = SyntheticConfig(seed=SEED, **demo_centernet.CROWDS)
    n_found = n_right_or_below = 0
    for index in range(8):
        record = generate_image(config, index)
        image = tf.io.decode_jpeg(record.image_bytes)[tf.newaxis]
        boxes = predictor.detect(image, input_side=input_side, detector_threshold=0.4)["boxes"]
        overlaps = pairwise_iou(boxes.to_tensor(), np.float32([found[record.image_id]]))[0]
        assert np.all(np.max(overlaps, axis=1) > 0.8)
        n_found += overlaps.shape[0]
        n_right_or_below += np.sum(np.any(boxes[0][:, :2] + boxes[0][:, 2:] > 130, axis=1))
    assert n_found > 8 and n_right_or_below > 0


def test_finds_most_people_of_rendered_crowds(metrics):
    assert metrics["box_ap50"] > 0.7
    assert metrics["box_recall50"] > 0.85
    assert metrics["keypoint_ap50"] > 0.4


def test_an_empty_picture_has_nobody():
    predictor = centernet.make_predictor(*centernet.load_preset(PRESET))
    grey = np.full((1, 200, 300, 3), 128, np.uint8)
    assert predictor.detect(grey)["boxes"].row_lengths().numpy().tolist() == [0]
