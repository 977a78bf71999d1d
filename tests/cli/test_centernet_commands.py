"""The commands on a detector: train, resume, evaluate, export, predict, boxes for poses."""

import json
import os

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import (
    evaluate,
    export,
    inspect_data,
    models,
    predict,
    prepare_data,
    train,
)
from metrabs_like.data.synthetic import SyntheticConfig, generate_image
from metrabs_like.layers.backbones.dla import build_dla
from metrabs_like.systems.centernet.torch_names import state_dict_of
from metrabs_like.training.loop import TrainSummary
from metrabs_like.viz import palette
from tests.data import torch_writer

TINY = (
    "--system=centernet",
    "--centernet_backbone=tiny",
    "--centernet_proc_side=64",
    "--centernet_width=0.25",
    "--centernet_head_width=16",
    "--centernet_max_objects=4",
    "--centernet_top_k=8",
    "--train_learning_rate=1e-3",
    "--train_log_every=1",
    "--images_shuffle_buffer=8",
)
CROWDS = (
    "--synthetic_image_side=96",
    "--synthetic_max_people=3",
    "--synthetic_images_per_shard=6",
    "--n_processes=1",
)


def prepare_crowds(folder, n_images, *more):
    """Prepares crowds in this process; returns the folder as text."""
    arguments = [f"--synthetic_n_images={n_images}", *CROWDS, *more]
    assert prepare_data.main(["prepare_data", *arguments, f"--output_dir={folder}"]) == 0
    return str(folder)


@pytest.fixture(scope="module")
def crowds(tmp_path_factory):
    return prepare_crowds(tmp_path_factory.mktemp("crowds") / "train", 12)


def run_train(workdir, dataset, *more):
    arguments = [f"--workdir={workdir}", f"--sources=kp3d:{dataset}:4", *TINY, *more]
    return train.main(["train", *arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory, crowds):
    """A run of four updates, stopped after two, with validation."""
    workdir = str(tmp_path_factory.mktemp("runs") / "detector")
    validation = (f"--validation={crowds}", "--validation_every=2")
    assert run_train(workdir, crowds, "--train_steps=2", *validation) == 0
    assert run_train(workdir, crowds, "--train_steps=4", *validation) == 0
    return workdir


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "crowd.jpg"
    path.write_bytes(generate_image(SyntheticConfig(image_side=96, max_people=3), 5).image_bytes)
    return str(path)


def test_training_logs_the_seven_parts(run):
    rows = open(os.path.join(run, "log.csv")).read().splitlines()
    assert set(rows[0].split(",")) >= {"loss", "hm", "hp", "hm_hp", "hp_offset", "wh", "off"}
    assert len(rows) == 5
    with open(os.path.join(run, "validation.jsonl")) as file:
        measured = [json.loads(line) for line in file]
    assert [row["step"] for row in measured] == [2, 4]
    assert "recall_at_50_iou" in measured[0]


def test_settings_of_another_system_are_refused(tmp_path, crowds, capsys):
    assert run_train(tmp_path / "run", crowds, "--metrabs_depth=4") == 1
    assert "--metrabs_depth is a setting of the system 'metrabs'" in capsys.readouterr().err
    assert run_train(tmp_path / "run", crowds, "--data_fast_dct=false") == 1
    assert "--data_fast_dct is a setting of the system 'metrabs'" in capsys.readouterr().err


def test_kinds_without_joints_in_the_image_are_refused(tmp_path, crowds, capsys):
    sources = f"--sources=dense:{crowds}:4"
    assert train.main(["train", f"--workdir={tmp_path}/run", sources, *TINY]) == 1
    assert "kind='dense'" in capsys.readouterr().err


def test_start_from_another_detector(run, crowds, tmp_path, capsys):
    more = (f"--init_from={run}", "--train_steps=1", "--nocenternet_hm_hp")
    assert run_train(tmp_path / "next", crowds, *more) == 0
    assert "layers copied" in capsys.readouterr().out
    assert "17 of 17 joints" in run_train_output(tmp_path / "other", crowds, run, capsys)


def run_train_output(workdir, crowds, run, capsys):
    assert run_train(workdir, crowds, f"--init_from={run}", "--train_steps=1") == 0
    return capsys.readouterr().out


@pytest.fixture
def starts(monkeypatch):
    """The models that the command hands to the training, which here only leaves a checkpoint."""
    models_ = []

    def start(model, objectives, dataset, config, prepare, workdir, *more, on_start, **options):
        models_.append(model)
        on_start(0)
        os.makedirs(os.path.join(workdir, "checkpoints"), exist_ok=True)
        open(os.path.join(workdir, "checkpoints", "step-1.index"), "w").close()
        return TrainSummary(1, 0, False, 0, 0, {}, 1.0)

    monkeypatch.setattr(train, "train", start)
    return models_


def test_the_file_of_imagenet_weights_is_needed_at_the_start_alone(
    starts, crowds, tmp_path, capsys
):
    path = tmp_path / "dla34.pth"
    more = ("--centernet_backbone=dla34", "--nocenternet_deformable", "--centernet_width=1")
    more = (*more, f"--centernet_weights={path}", "--train_steps=1")
    workdir = tmp_path / "run"
    assert run_train(workdir, crowds, *more) == 1
    assert "dla34.pth does not exist" in capsys.readouterr().err and not starts
    tf.keras.utils.set_random_seed(7)
    state = state_dict_of(build_dla("dla34"))
    torch_writer.save(path, state)
    assert run_train(workdir, crowds, *more) == 0
    found = state_dict_of(starts[0].get_layer("dla34"))
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    path.unlink()
    assert run_train(workdir, crowds, *more) == 0
    resumed, fresh = starts[1], starts[0]
    assert [w.shape for w in resumed.weights] == [w.shape for w in fresh.weights]
    assert run_train(tmp_path / "other", crowds, *more) == 1


def test_a_pose_model_is_no_start_for_a_detector(crowds, tmp_path, capsys):
    assert run_train(tmp_path / "run", crowds, "--init_from=synthetic_long") == 1
    assert "--init_from=synthetic_long" in capsys.readouterr().err


def test_evaluation(run, crowds, tmp_path, capsys):
    arguments = [f"--model={run}", f"--dataset={crowds}", f"--output_dir={tmp_path}"]
    assert evaluate.main(["evaluate", *arguments, "--batch_size=5"]) == 0
    printed = capsys.readouterr().out
    assert "box AP" in printed and "keypoint AP" in printed
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["n_images"] == 12
    assert 0 <= content["metrics"]["box_ap50"] <= 1
    assert os.path.exists(tmp_path / "results.json")
    assert cv2.imread(str(tmp_path / "pictures.png")) is not None


def test_masks_are_learned_and_people_without_them_measured(crowds, tmp_path, capsys):
    masks = ("--centernet_segmentation=1x1", "--train_steps=1")
    with_masks = prepare_crowds(tmp_path / "masks", 4, "--synthetic_with_masks")
    workdir = tmp_path / "run"
    more = (*masks, f"--validation={crowds}", "--validation_every=1")
    assert run_train(workdir, with_masks, *more) == 0
    assert "seg" in (workdir / "log.csv").read_text().splitlines()[0].split(",")
    assert json.loads((workdir / "validation.jsonl").read_text())["step"] == 1
    assert evaluate.main(["evaluate", f"--model={workdir}", f"--dataset={crowds}"]) == 0
    capsys.readouterr()
    assert run_train(tmp_path / "other", crowds, *masks) == 1
    assert "has no masks, but segmentation='1x1'" in capsys.readouterr().err


def test_export_and_predict_agree(run, photo, tmp_path):
    exported = tmp_path / "exported"
    assert export.main(["export", f"--model={run}", f"--output_dir={exported}"]) == 0
    image = cv2.imread(photo)[..., ::-1][np.newaxis]
    loaded = tf.saved_model.load(str(exported / "saved_model"))
    predictor = models.load(run).predictor()
    expected = predictor.detect(image, detector_threshold=0.0)
    found = loaded.detect(image, detector_threshold=0.0)
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][0], values[0], atol=1e-3, err_msg=name)
    contents = []
    for model in (run, exported):
        out = tmp_path / "people"
        options = [f"--image={photo}", f"--output_dir={out}", "--detector_threshold=0.01"]
        assert predict.main(["predict", *options, f"--model={model}"]) == 0
        contents.append(json.loads((out / "crowd_people.json").read_text()))
        assert cv2.imread(str(out / "crowd_people.png")).shape == (96, 96, 3)
    assert len(contents[0]["joint_names"]) == 17
    assert len(contents[0]["people"]) == len(contents[1]["people"])


def test_boxes_for_poses_come_from_the_detector(run, photo, tmp_path, capsys):
    options = [f"--image={photo}", f"--output_dir={tmp_path}", f"--detector={run}"]
    assert predict.main(["predict", *options, "--detector_threshold=0.0"]) == 0
    content = json.loads((tmp_path / "crowd_poses.json").read_text())
    assert 0 < len(content["people"]) <= 8
    assert f"found by the detector {run}" in content["box_source"]
    assert predict.main(["predict", *options, "--detector_threshold=1"]) == 0
    content = json.loads((tmp_path / "crowd_poses.json").read_text())
    assert content["people"] == [] and "nobody was found" in content["box_source"]


def test_what_does_not_fit_is_named(run, photo, tmp_path, capsys):
    options = [f"--image={photo}", f"--output_dir={tmp_path}"]
    for flag in ("--boxes=1,2,30,40", "--skeleton=smpl_24", "--fov_degrees=50.0", "--num_aug=1"):
        assert predict.main(["predict", *options, f"--model={run}", flag]) == 1
        assert f"{flag} is for pose models, and {run} finds the" in capsys.readouterr().err
    flags = ("--boxes=1,2,30,40", "--max_detections=3")
    assert predict.main(["predict", *options, *flags]) == 1
    assert "--max_detections=3 is for the search of people" in capsys.readouterr().err
    assert predict.main(["predict", *options, "--joint_threshold=0.5"]) == 1
    assert "--joint_threshold=0.5 is for detectors, and synthetic_long" in capsys.readouterr().err
    assert predict.main(["predict", *options, "--detector=synthetic_long"]) == 1
    assert "--detector=synthetic_long finds no people" in capsys.readouterr().err
    assert predict.main(["predict", *options, f"--model={run}", "--input_side=50"]) == 1
    assert "input_side" in capsys.readouterr().err


def test_inspection_shows_whole_images_with_their_people(crowds, tmp_path, capsys):
    arguments = [f"--sources=kp3d:{crowds}:4", f"--output_dir={tmp_path}", "--n_images=6"]
    assert inspect_data.main(["inspect_data", *TINY, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "people in 12 images" in printed and "of 17 joints" in printed
    (path,) = tmp_path.glob("*.png")
    sheet = cv2.imread(str(path)).astype(int)
    # boxes are drawn in the colours of people, of which the first is green
    assert (np.abs(sheet - palette.PERSON_COLORS[0][::-1]).sum(axis=-1) < 30).sum() > 50


def test_other_joints_have_no_keypoint_precision(crowds, tmp_path, capsys):
    more = ("--centernet_skeleton=smpl_24", "--train_steps=1")
    assert run_train(tmp_path / "run", crowds, *more) == 0
    arguments = [f"--model={tmp_path / 'run'}", f"--dataset={crowds}", "--n_pictures=0"]
    assert evaluate.main(["evaluate", *arguments]) == 0
    assert "keypoint AP, OKS 0.50 to 0.95                      -" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())[
        "metrics"
    ]
    assert "box_ap" in metrics and "keypoint_ap" not in metrics


def test_flip_test_and_scales(run, crowds, tmp_path, capsys):
    arguments = [f"--model={run}", f"--dataset={crowds}", f"--output_dir={tmp_path}"]
    arguments += ["--flip_test", "--test_scales=1,1.5", "--n_pictures=2"]
    assert evaluate.main(["evaluate", *arguments]) == 0
    protocol = json.loads((tmp_path / "evaluation.json").read_text())["protocol"]
    assert protocol["flip_test"] is True and protocol["test_scales"] == [1.0, 1.5]
    assert protocol["input_side_px"] == 64
    assert evaluate.main(["evaluate", *arguments, "--keep_resolution"]) == 0
    kept = json.loads((tmp_path / "evaluation.json").read_text())["protocol"]
    assert kept["input_side_px"] is None and kept["images"] == "whole, as large as they are"
    assert evaluate.main(["evaluate", *arguments, "--test_scales=1,no"]) == 1
    assert "--test_scales=1,no: give numbers above 0" in capsys.readouterr().err
