"""The detector that ships: what its card says, in both TensorFlow lanes."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from metrabs_like.cli import demo_centernet, evaluate, prepare_data
from metrabs_like.cli.estimators import DEFAULT_PRESETS
from metrabs_like.systems import centernet

PRESET = DEFAULT_PRESETS["centernet"]
FOLDER = pathlib.Path(centernet.__file__).parent / "presets" / PRESET
MAX_BYTES = 6_000_000


def test_weights_are_small_and_those_of_the_card():
    weights = (FOLDER / "model.weights.h5").read_bytes()
    assert len(weights) <= MAX_BYTES
    assert hashlib.sha256(weights).hexdigest() in (FOLDER / "MODEL_CARD.md").read_text()


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """`evaluate` on rendered crowds that no training saw."""
    folder = tmp_path_factory.mktemp("detector")
    crowds = (f"--synthetic_{name}={value}" for name, value in demo_centernet.CROWDS.items())
    prepared = ["--synthetic_n_images=60", "--synthetic_seed=7000003", "--n_processes=1", *crowds]
    assert prepare_data.main(["prepare_data", *prepared, f"--output_dir={folder / 'data'}"]) == 0
    paths = [f"--dataset={folder / 'data'}", f"--output_dir={folder}"]
    assert evaluate.main(["evaluate", f"--model={PRESET}", *paths]) == 0
    return json.loads((folder / "evaluation.json").read_text())["metrics"]


def test_finds_most_people_of_rendered_crowds(metrics):
    assert metrics["box_ap50"] > 0.7
    assert metrics["box_recall50"] > 0.85
    assert metrics["keypoint_ap50"] > 0.4


def test_an_empty_picture_has_nobody():
    predictor = centernet.make_predictor(*centernet.load_preset(PRESET))
    grey = np.full((1, 200, 300, 3), 128, np.uint8)
    assert predictor.detect(grey)["boxes"].row_lengths().numpy().tolist() == [0]
