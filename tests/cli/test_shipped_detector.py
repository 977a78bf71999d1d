"""The detector that ships: what its card says, in both TensorFlow lanes."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metrabs_like.cli import app, demo_centernet, evaluate, prepare_data, train
from metrabs_like.cli.estimators import DEFAULT_PRESETS
from metrabs_like.data.synthetic import SyntheticConfig, generate_image
from metrabs_like.geometry.boxes import pairwise_iou
from metrabs_like.systems import centernet

PRESET = DEFAULT_PRESETS["centernet"]
FOLDER = pathlib.Path(centernet.__file__).parent / "presets" / PRESET
ROOT = pathlib.Path(__file__).parents[2]
MAX_BYTES = 6_000_000
SEED = 7_000_003
SIDE = centernet.load_preset(PRESET)[1].proc_side
LARGER_SIDE = 256  # 1.6 times that of training


def test_weights_are_small_and_those_of_the_card():
    weights = (FOLDER / "model.weights.h5").read_bytes()
    assert len(weights) <= MAX_BYTES
    assert hashlib.sha256(weights).hexdigest() in (FOLDER / "MODEL_CARD.md").read_text()


def test_the_flagfile_makes_its_network(monkeypatch):
    monkeypatch.chdir(ROOT)
    path = f"flags/centernet/{PRESET}.flags"
    run = train.build_run(app.parse(train.define_flags, ["train", f"--flagfile={path}"]))
    assert run.model == centernet.load_preset(PRESET)[1]


@pytest.fixture(scope="module")
def crowds(tmp_path_factory):
    """Rendered crowds that no training saw."""
    folder = tmp_path_factory.mktemp("detector")
    crowds = (f"--synthetic_{name}={value}" for name, value in demo_centernet.CROWDS.items())
    prepared = ["--synthetic_n_images=60", f"--synthetic_seed={SEED}", "--n_processes=1", *crowds]
    assert prepare_data.main(["prepare_data", *prepared, f"--output_dir={folder / 'data'}"]) == 0
    return folder / "data"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compile_deformable": "false"}, "compile_deformable='false': must be true or false"),
        ({"hm_wieght": 2}, "unknown fields ['hm_wieght']; remove them"),
    ],
)
def test_a_slip_in_a_folders_config_is_named(crowds, tmp_path, capsys, change, message):
    for name in ("config.json", "model.weights.h5"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    arguments = [f"--model={tmp_path}", f"--dataset={crowds}", f"--output_dir={tmp_path}"]
    assert evaluate.main(["evaluate", *arguments]) == 1
    assert message in capsys.readouterr().err


def evaluated(crowds, folder, *arguments):
    paths = [f"--model={PRESET}", f"--dataset={crowds}", f"--output_dir={folder}"]
    assert evaluate.main(["evaluate", *paths, *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def evaluation(crowds, tmp_path_factory):
    return evaluated(crowds, tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def metrics(evaluation):
    return json.loads((evaluation / "evaluation.json").read_text())["metrics"]


@pytest.mark.parametrize(("kind", "prefix"), [("bbox", "box_"), ("keypoints", "keypoint_")])
def test_the_official_tool_reads_the_same_numbers_from_the_files(evaluation, metrics, kind, prefix):
    truth = COCO(str(evaluation / "ground_truth.json"))
    tool = COCOeval(truth, truth.loadRes(str(evaluation / "results.json")), kind)
    tool.evaluate()
    tool.accumulate()
    tool.summarize()
    ours = [metrics[f"{prefix}ap"], metrics[f"{prefix}ap50"], metrics[f"{prefix}ap75"]]
    assert 0.05 < ours[0] < ours[1]
    np.testing.assert_allclose(ours, tool.stats[:3], rtol=1e-6)


def compared(people, found):
    """Overlaps of people of `detect` with those most alike in `found`; differences of scores."""
    overlaps = pairwise_iou(people["boxes"].to_tensor(), found[np.newaxis, :, :4])[0].numpy()
    scores = found[np.argmax(overlaps, axis=1), 4]
    return np.max(overlaps, axis=1), np.abs(people["scores"][0] - scores)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--keep_resolution"], [{"input_side": 0}]),
        (["--test_scales=1.6"], [{"input_side": LARGER_SIDE}]),
        (["--test_scales=1,1.6"], [{"input_side": SIDE}, {"input_side": LARGER_SIDE}]),
        (["--flip_test"], [{"detector_flip_aug": True}]),
    ],
)
def test_evaluation_finds_whom_detect_finds(crowds, tmp_path, arguments, options):
    """At other sizes, at several, and with the mirrored image."""
    folder = evaluated(crowds, tmp_path, *arguments)
    rows = {}
    for row in json.loads((folder / "results.json").read_text()):
        rows.setdefault(row["image_id"], []).append((*row["bbox"], row["score"]))
    predictor = centernet.make_predictor(*centernet.load_preset(PRESET))
    config = SyntheticConfig(seed=SEED, **demo_centernet.CROWDS)
    n_right_or_below, differences, plain_differences = 0, [], []
    for index in range(8):
        record = generate_image(config, index)
        image = tf.io.decode_jpeg(record.image_bytes)[tf.newaxis]
        found = np.float32(rows[record.image_id])
        for option in options:
            people = predictor.detect(image, detector_threshold=0.4, **option)
            overlaps, more = compared(people, found)
            assert np.all(overlaps > 0.8)
            differences += more.tolist()
            far = people["boxes"][0][:, :2] + people["boxes"][0][:, 2:] > 130
            n_right_or_below += np.sum(np.any(far, axis=1))
        if len(options) == 1:
            plain = predictor.detect(image, detector_threshold=0.4)
            plain_differences += compared(plain, found)[1].tolist()
    assert len(differences) > 8 and n_right_or_below > 0
    if len(options) == 1:  # those of several scales are merged, their scores are changed
        assert np.mean(differences) < 0.5 * np.mean(plain_differences)


def test_finds_most_people_of_rendered_crowds(metrics):
    assert metrics["box_ap50"] > 0.7
    assert metrics["box_recall50"] > 0.85
    assert metrics["keypoint_ap50"] > 0.4


def test_an_empty_picture_has_nobody():
    predictor = centernet.make_predictor(*centernet.load_preset(PRESET))
    grey = np.full((1, 200, 300, 3), 128, np.uint8)
    assert predictor.detect(grey)["boxes"].row_lengths().numpy().tolist() == [0]
