"""The export command: what it writes gives the numbers of the trained model."""

import json

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import export, models


def _export(model, folder):
    return export.main(["export", f"--model={model}", f"--output_dir={folder}"])


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    assert _export(finished_run, folder) == 0
    return folder


def _inputs(config):
    image = np.random.default_rng(0).random((2, config.proc_side, config.proc_side, 3), np.float32)
    intrinsics = np.array([[100.0, 0, 31.5], [0, 100.0, 31.5], [0, 0, 1]], np.float32)
    return {"image": image, "intrinsics": np.tile(intrinsics, (2, 1, 1))}


def test_keras_file_gives_the_outputs_of_the_run(exported, finished_run):
    trained = models.load(finished_run)
    inputs = _inputs(trained.config)
    expected = trained.model(inputs, training=False)
    loaded = tf.keras.models.load_model(exported / "model.keras")
    found = loaded(inputs, training=False)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)


def test_saved_model_gives_the_poses_of_the_run(exported, finished_run):
    trained = models.load(finished_run)
    inputs = _inputs(trained.config)
    outputs = trained.model(inputs, training=False)
    expected = trained.system.decode(outputs, inputs, trained.config)
    loaded = tf.saved_model.load(str(exported / "saved_model"))
    found = loaded.predict_crops(inputs["image"], inputs["intrinsics"])
    for key in ("coords3d_abs", "uncert"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=1e-4)


def test_config_beside_it_is_the_models(exported, finished_run):
    config = json.loads((exported / "config.json").read_text())
    assert config["skeleton"] == "smpl_24" and config["proc_side"] == 64


def test_folder_that_is_no_export_is_kept(finished_run, tmp_path, capsys):
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "diary.txt").write_text("mine")
    assert _export(finished_run, tmp_path) == 1
    assert "is no SavedModel" in capsys.readouterr().err
    assert (tmp_path / "saved_model" / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "folder", "message"),
    [
        ("", "OUT", "--model is missing"),
        ("OUT/none", "OUT", "OUT/none"),
        ("RUN", "", "--output_dir is missing"),
        ("RUN", "OUT/file/below", "cannot be written"),
    ],
)
def test_bad_input_is_named(model, folder, message, finished_run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    model = finished_run if model == "RUN" else model.replace("OUT", str(tmp_path))
    assert _export(model, folder.replace("OUT", str(tmp_path))) == 1
    assert message.replace("OUT", str(tmp_path)) in capsys.readouterr().err
