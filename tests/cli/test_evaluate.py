"""The evaluate command: report, baseline, bad input."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.cli import baselines, evaluate, pose_evaluation
from metrabs_like.data.pipeline import PipelineConfig, make_eval_dataset
from metrabs_like.data.preparation import write_dataset
from metrabs_like.data.readers import synthetic
from metrabs_like.data.synthetic import SyntheticConfig, generate_shard


def _evaluate(model, dataset, *more):
    return evaluate.main(["evaluate", f"--model={model}", f"--dataset={dataset}", *more])


def test_report_stands_beside_the_baseline(finished_run, held_out, tmp_path, capsys):
    more = (f"--output_dir={tmp_path}", "--batch_size=4")
    assert _evaluate(finished_run, held_out, *more) == 0
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["n_people"] == 10
    assert content["baseline"]["n_training_people"] == 20
    assert 0.5 < content["baseline"]["mean_body_height_m"] < 3
    model, baseline = content["metrics"], content["baseline"]["metrics"]
    for key in pose_evaluation.ROWS:
        assert np.isfinite(model[key]) and np.isfinite(baseline[key])
    assert content["protocol"]["root"] == "mean of the valid points"
    assert content["protocol"]["crop_side_px"] == 64
    assert "no reflection" in content["protocol"]["pa_mpjpe"]
    assert "no rotation" in content["protocol"]["mpjpe"]
    ratio = content["ratio_to_baseline"]["mpjpe_mm"]
    np.testing.assert_allclose(ratio, model["mpjpe_mm"] / baseline["mpjpe_mm"])
    per_joint = content["mpjpe_per_joint_mm"]
    assert tuple(per_joint) == skeletons.SMPL_24.joint_names
    assert -1 <= content["uncertainty_rank_correlation"] <= 1
    plot = cv2.imread(str(tmp_path / "error_vs_uncertainty.png"))
    assert plot is not None and plot.std() > 0
    printed = capsys.readouterr().out
    assert "MPJPE, root-relative [mm]" in printed and "baseline" in printed


def test_baseline_is_perfect_on_the_person_it_was_measured_on(dataset):
    pipeline = PipelineConfig(proc_side=64)
    one = baselines.measure(dataset, pipeline, skeletons.SMPL_24, 64)
    assert one.n_people == 20
    batches = make_eval_dataset(
        dataset, "kp3d", pipeline, skeleton=skeletons.SMPL_24, batch_size=20
    )
    sub_batch = next(batches.as_numpy_iterator())["kp3d"]
    person = {key: value[:1] for key, value in sub_batch.items()}
    true = person["coords3d_true"]
    height = true[0, :, 2].mean() * baselines.angular_heights(person, pipeline)[0]
    own = baselines.MeanPerson(true[0] - true[0].mean(axis=0), float(height), 1)
    placed = own.placed(person, pipeline)
    # The crop's axis passes the middle of the box, not of the body.
    np.testing.assert_allclose(placed[..., 2], true[..., 2], rtol=1e-5)
    offset = (placed - true)[..., :2]
    assert np.ptp(offset, axis=1).max() < 1e-4 and np.abs(offset).max() < 0.5


def test_angular_height_is_the_box_over_the_focal_length(dataset):
    pipeline = PipelineConfig(proc_side=64)
    batches = make_eval_dataset(
        dataset, "kp3d", pipeline, skeleton=skeletons.SMPL_24, batch_size=20
    )
    sub_batch = next(batches.as_numpy_iterator())["kp3d"]
    measured = baselines.angular_heights(sub_batch, pipeline)
    y = sub_batch["coords2d_true"][..., 1]
    extent = np.ptp(y, axis=1) / sub_batch["intrinsics"][:, 1, 1]
    # Boxes hold the body's surface and end at the image border; joints lie inside the one and pass
    # the other, so that only the size on the whole must agree.
    assert 0.7 < np.median(measured / extent) < 1.4


def test_report_that_cannot_be_written_keeps_the_one_before(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text("before")
    with pytest.raises(TypeError):
        pose_evaluation.save({"metrics": {}, "what": object()}, str(tmp_path), None)
    assert path.read_text() == "before"


def test_joint_table_counts_what_was_not_measured():
    errors = {"nose": 10.0, "neck": float("nan"), "lank": 80.0}
    lines = pose_evaluation.joint_table({pose_evaluation.PER_JOINT: errors}).splitlines()
    assert [line.split()[0] for line in lines] == ["lank", "nose", "(1"]


def test_model_without_training_data_has_no_baseline(own_run, held_out, tmp_path, capsys):
    path = own_run / "config.json"
    values = json.loads(path.read_text())
    values["sources"] = ["kp3d:no_such_folder:4"]
    path.write_text(json.dumps(values))
    assert _evaluate(own_run, held_out, f"--output_dir={tmp_path}") == 0
    assert "baseline" not in json.loads((tmp_path / "evaluation.json").read_text())
    assert "--baseline_dataset" in capsys.readouterr().out


def _without_config(run):
    (run / "config.json").unlink()


def _with_damaged_config(run):
    (run / "config.json").write_text("{")


def _without_weights(run):
    (run / "model.weights.h5").unlink()


def _without_checkpoints(run):
    _without_weights(run)
    shutil.rmtree(run / "checkpoints")


def _with_damaged_weights(run):
    os.truncate(run / "model.weights.h5", 1000)


def _with_weights_of_another_model(run):
    path = run / "config.json"
    values = json.loads(path.read_text())
    values["model"]["depth"] = 4
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_config, "config.json"),
        (_with_damaged_config, "not readable by this version"),
        (_without_weights, "its last checkpoint is of step 2"),
        (_without_checkpoints, "it has no checkpoint"),
        (_with_damaged_weights, "does not fit the model"),
        (_with_weights_of_another_model, "does not fit the model"),
    ],
)
def test_damaged_run_is_named(damage, message, own_run, held_out, tmp_path, capsys):
    damage(own_run)
    assert _evaluate(own_run, held_out, f"--output_dir={tmp_path}") == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model="], "--model is missing"),
        (["--model=OUT/none", "--output_dir=OUT"], "OUT/none"),
        (["--dataset=OUT/none"], "OUT/none"),
        (["--baseline_dataset=OUT/none", "--output_dir=OUT"], "OUT/none"),
        (["--output_dir=OUT/file/below"], "cannot be written"),
        (["--flip_test"], "--flip_test is for models of the system 'centernet', and"),
        (["--test_scales=1,2"], "--test_scales is for models of the system 'centernet', and"),
    ],
)
def test_bad_input_is_named(arguments, message, finished_run, held_out, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    more = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
    assert _evaluate(finished_run, held_out, *more) == 1
    assert message.replace("OUT", str(tmp_path)) in capsys.readouterr().err


@pytest.fixture(scope="module")
def bodies_only(tmp_path_factory):
    """A set of people with body parameters alone."""

    def task(index):
        for record in generate_shard(config, index):
            for person in record.people:
                person.validity3d = np.zeros_like(person.validity3d)
                person.validity2d = np.zeros_like(person.validity2d)
            yield record

    folder = str(tmp_path_factory.mktemp("bodies_only"))
    config = SyntheticConfig(n_images=6, image_side=64, with_body_parameters=True)
    info, _ = synthetic.plan(config)
    write_dataset([task], folder, info, n_processes=1, progress=False)
    return folder


def test_a_set_of_bodies_is_measured_by_its_joints(finished_run, bodies_only, tmp_path):
    assert _evaluate(finished_run, bodies_only, f"--output_dir={tmp_path}") == 0
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["n_people"] == 6
    assert np.isfinite(content["metrics"]["mpjpe_mm"])
    assert tuple(content["mpjpe_per_joint_mm"]) == skeletons.SMPL_24.joint_names


def test_bodies_of_another_model_are_not_measured(finished_run, bodies_only, tmp_path, capsys):
    folder = tmp_path / "smpl"
    shutil.copytree(bodies_only, folder)
    info = json.loads((folder / "dataset.json").read_text())
    info["body_model"] = {"name": "smpl", "n_vertices": 6890}
    (folder / "dataset.json").write_text(json.dumps(info))
    assert _evaluate(finished_run, folder, f"--output_dir={tmp_path / 'out'}") == 1
    assert "body model 'smpl' with 6890 vertices" in capsys.readouterr().err
