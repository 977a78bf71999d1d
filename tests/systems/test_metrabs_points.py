"""Asking for any point of the body, in process and from a SavedModel."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import serving
from metrabs_like.systems import metrabs

CONFIG = dataclasses.replace(metrabs.tiny_config(), head="field", field_width=16)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    return metrabs.build_model(CONFIG)


@pytest.fixture
def crops(rng):
    side = CONFIG.proc_side
    intrinsics = np.array([[90.0, 0, 31.5], [0, 90, 31.5], [0, 0, 1]])
    image = rng.uniform(size=[2, side, side, 3])
    return tf.constant(image, tf.float32), tf.constant(np.tile(intrinsics, [2, 1, 1]), tf.float32)


def predictor_of(model):
    def decode(outputs, inputs):
        return metrabs.decode(outputs, inputs, CONFIG)

    return serving.PosePredictor(
        serving.crop_predictor(metrabs.joint_network(model), decode),
        CONFIG.proc_side,
        CONFIG.joints,
        point_predictor=metrabs.point_predictor(model, CONFIG),
    )


def test_asking_for_the_joints_positions_gives_the_joints(model, crops):
    joints = model.get_layer("head").canonical_joints()
    found = metrabs.predict(model, CONFIG, *crops, joints)
    inputs = dict(zip(("image", "intrinsics"), crops, strict=True))
    outputs = metrabs.joint_network(model)(inputs)
    expected = metrabs.decode(outputs, inputs, CONFIG)
    for key in ("coords3d_abs", "coords2d", "uncert"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-3)


def test_the_saved_model_predicts_points(model, crops, tmp_path, rng):
    serving.save(predictor_of(model), tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for n_points in (0, 3, 5):
        points = tf.constant(rng.uniform(-1, 1, [n_points, 3]), tf.float32)
        expected = metrabs.predict(model, CONFIG, *crops, points)
        found = loaded.predict(*crops, points)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key].shape[:2] == (2, n_points)
            # pixels of an untrained network's points are in the hundred thousands
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-3)
    nobody = loaded.predict(crops[0][:0], crops[1][:0], points)
    assert nobody["coords3d_abs"].shape == (0, 5, 3)
    assert loaded.predict_crops(*crops)["coords3d_abs"].shape == (2, 24, 3)


def test_keras_file_of_a_field_gives_the_same(model, crops, tmp_path):
    inputs = dict(zip(("image", "intrinsics"), crops, strict=True))
    inputs["canonical_points"] = tf.ones([2, 2, 3])
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    for key, value in model(inputs, training=False).items():
        np.testing.assert_allclose(loaded(inputs, training=False)[key], value, atol=1e-5)


def test_fixed_heads_have_no_points_to_ask_for(crops):
    config = metrabs.tiny_config()
    model = metrabs.build_model(config)
    assert metrabs.point_predictor(model, config) is None
    assert metrabs.joint_network(model) is model
    with pytest.raises(ValueError, match="head='field'.*head='fixed'"):
        metrabs.predict(model, config, *crops, np.zeros([1, 3]))
