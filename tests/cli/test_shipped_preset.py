"""The preset that ships: what its card says, in both TensorFlow lanes."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from metrabs_like.cli import evaluate, prepare_data
from metrabs_like.cli.estimators import DEFAULT_PRESETS
from metrabs_like.systems import metrabs

DEFAULT_PRESET = DEFAULT_PRESETS["metrabs"]
FOLDER = pathlib.Path(metrabs.__file__).parent / "presets" / DEFAULT_PRESET
MAX_BYTES = 6_000_000
NOSE_M, NOSE_UNCERTAINTY_M = [-0.05942, -0.67072, 3.01045], 0.20312


def test_weights_are_small_and_those_of_the_card():
    weights = (FOLDER / "model.weights.h5").read_bytes()
    assert len(weights) <= MAX_BYTES
    assert hashlib.sha256(weights).hexdigest() in (FOLDER / "MODEL_CARD.md").read_text()


def test_network_gives_the_same_numbers_in_both_lanes():
    """The file was written under Keras 3; the numbers are of that network on a drawn figure."""
    model, config = metrabs.load_preset(DEFAULT_PRESET)
    side = config.proc_side
    y, x = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
    figure = np.exp(-((6 * x) ** 2) - (2 * y) ** 2)
    image = np.stack([figure, 0.5 * figure + 0.3, 0.4 + 0.2 * x], axis=-1)[np.newaxis]
    intrinsics = np.array([[[200, 0, 63.5], [0, 200, 63.5], [0, 0, 1]]], np.float32)
    inputs = {"image": image.astype(np.float32), "intrinsics": intrinsics}
    decoded = metrabs.decode(model(inputs, training=False), inputs, config)
    nose = config.joints.index("nose_coco")
    np.testing.assert_allclose(decoded["coords3d_abs"][0, nose], NOSE_M, atol=2e-3)
    np.testing.assert_allclose(decoded["uncert"][0, nose], NOSE_UNCERTAINTY_M, atol=1e-3)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """`evaluate` on rendered people that no training saw."""
    folder = tmp_path_factory.mktemp("preset")
    data = folder / "data"
    prepared = [
        "--dataset=synthetic",
        "--synthetic_n_images=100",
        "--synthetic_seed=7000003",
        "--synthetic_image_side=192",
        "--n_processes=1",
    ]
    assert prepare_data.main(["prepare_data", *prepared, f"--output_dir={data}"]) == 0
    paths = [f"--dataset={data}", f"--baseline_dataset={data}", f"--output_dir={folder}"]
    assert evaluate.main(["evaluate", f"--model={DEFAULT_PRESET}", *paths]) == 0
    return json.loads((folder / "evaluation.json").read_text())


def test_knows_rendered_people_far_better_than_the_mean_pose(report):
    assert report["ratio_to_baseline"]["mpjpe_mm"] < 0.55
    assert report["metrics"]["median_relative_root_depth_error"] < 0.06
    assert report["uncertainty_rank_correlation"] > 0.5
