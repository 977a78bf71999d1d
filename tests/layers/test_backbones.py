"""Backbones: shapes at each stride, alignment of features and pixels, errors, serialization."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers import BACKBONES, build_backbone
from metrabs_like.layers.backbones import APPLICATIONS


@pytest.mark.parametrize(("stride", "side"), [(8, 64), (16, 128), (32, 256)])
def test_tiny_shapes_and_size(stride, side):
    backbone = build_backbone("tiny", stride=stride)
    assert backbone(tf.zeros([2, side, side, 3])).shape == (2, side // stride, side // stride, 128)
    assert 0.7e6 < backbone.count_params() < 1.3e6


def test_tiny_weights_move_between_strides():
    source, target = (build_backbone("tiny", stride=s, width=0.25) for s in (16, 32))
    target.set_weights(source.get_weights())
    assert [w.shape for w in source.weights] == [w.shape for w in target.weights]


def test_width_scales_the_channels():
    assert build_backbone("tiny", stride=16, width=0.5).output_shape[-1] == 64


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_convention_features_look_at_the_middle_of_their_cells(stride, rng):
    backbone = build_backbone("tiny", stride=stride, width=0.25)
    side = 16 * stride
    # random positive branches, so that the receptive field is not only that of the shortcuts
    for layer in backbone.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.gamma.assign(tf.ones_like(layer.gamma))
            layer.beta.assign(tf.ones_like(layer.beta))
        elif layer.name == "context":
            layer.kernel.assign(tf.zeros_like(layer.kernel))
        elif isinstance(layer, tf.keras.layers.Conv2D):
            layer.kernel.assign(tf.ones_like(layer.kernel) / layer.kernel.shape[2])
    image = tf.Variable(rng.uniform(0.6, 1, [1, side, side, 3]).astype(np.float32))
    with tf.GradientTape() as tape:
        feature = tf.reduce_sum(backbone(image)[:, 8, 8])
    influence = tf.reduce_sum(tf.abs(tape.gradient(feature, image)), [0, 3]).numpy()
    centre = np.arange(side) @ influence.sum(0) / influence.sum()
    assert abs(centre - (8 * stride + stride / 2 - 0.5)) < 1.0


def test_tiny_learns_the_context(rng):
    backbone = build_backbone("tiny", stride=16, width=0.25)
    image = rng.uniform(size=[1, 256, 256, 3]).astype(np.float32)
    changed = image.copy()
    changed[:, :8, :8] = 0
    difference = (backbone(changed) - backbone(image)).numpy()[0, -1, -1]
    assert np.abs(difference).max() > 0  # beyond the reach of the convolutions


def test_tiny_examples_do_not_see_each_other(rng):
    backbone = build_backbone("tiny", stride=16, width=0.25)
    images = rng.uniform(size=[3, 64, 64, 3]).astype(np.float32)
    together = backbone(images, training=False)
    for i in range(3):
        alone = backbone(images[i : i + 1], training=False)
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-4, atol=1e-5)


def test_tiny_takes_every_multiple_of_its_stride_in_one_trace():
    backbone, n_traces = build_backbone("tiny", stride=8, width=0.25), []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def call(image):
        n_traces.append(1)
        return backbone(image, training=False)

    shapes = [call(tf.zeros([n, h, w, 3])).shape for n, h, w in ((1, 64, 64), (2, 72, 104))]
    assert [tuple(shape) for shape in shapes] == [(1, 8, 8, 32), (2, 9, 13, 32)]
    assert len(n_traces) == 1


def test_tiny_trains_every_variable_and_its_statistics(rng):
    backbone = build_backbone("tiny", stride=16, width=0.25)
    images = rng.uniform(size=[4, 64, 64, 3]).astype(np.float32)
    statistics = [v.numpy() for v in backbone.non_trainable_variables]
    with tf.GradientTape() as tape:
        features = backbone(images, training=True)
        loss = tf.reduce_sum(features * rng.normal(size=features.shape).astype(np.float32))
    for gradient in tape.gradient(loss, backbone.trainable_variables):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    for before, variable in zip(statistics, backbone.non_trainable_variables, strict=True):
        assert np.abs(variable.numpy() - before).max() > 0


def test_tiny_is_the_same_after_keras_saved_it(rng, tmp_path):
    backbone = build_backbone("tiny", stride=32, width=0.25)
    backbone.save(tmp_path / "tiny.keras")
    images = rng.uniform(size=[2, 64, 64, 3]).astype(np.float32)
    again = tf.keras.models.load_model(tmp_path / "tiny.keras")
    np.testing.assert_array_equal(again(images), backbone(images))


@pytest.mark.parametrize(
    ("name", "kwargs", "named"),
    [
        ("tinny", {"stride": 16}, "tinny"),
        ("tiny", {"stride": 4}, "stride=4"),
        ("tiny", {"stride": 16, "width": 0}, "width=0"),
        ("tiny", {"stride": 16, "weights": "imagenet"}, "imagenet"),
        ("resnet50_v2", {"stride": 16}, "stride=16"),
        ("resnet50_v2", {"stride": 32, "width": 2.0}, "width=2.0"),
        ("resnet50_v2", {"stride": 32, "weights": "/no/such.h5"}, "/no/such.h5"),
    ],
)
def test_errors_name_the_value(name, kwargs, named):
    with pytest.raises(ValueError, match=named):
        build_backbone(name, **kwargs)


def test_missing_download_names_the_remedy(monkeypatch):
    def fail(**_):
        raise OSError("URL fetch failure")

    monkeypatch.setattr(tf.keras.applications, "MobileNetV3Small", fail)
    with pytest.raises(ValueError, match="URL fetch failure.*connect to the network"):
        build_backbone("mobilenet_v3_small", stride=32, weights="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_train(name):
    backbone = build_backbone(name, stride=32)
    image = tf.random.stateless_uniform([2, 64, 64, 3], [1, 2])
    with tf.GradientTape() as tape:
        features = backbone(image, training=True)
        loss = tf.reduce_mean(tf.square(features))
    gradients = tape.gradient(loss, backbone.trainable_variables)
    assert features.shape[:3] == (2, 2, 2)
    assert all(bool(tf.reduce_all(tf.math.is_finite(g))) for g in gradients)
    before = backbone.trainable_variables[0].numpy()
    optimizer = tf.keras.optimizers.SGD(0.1)
    optimizer.apply_gradients(zip(gradients, backbone.trainable_variables, strict=True))
    assert np.abs(backbone.trainable_variables[0].numpy() - before).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_scale_their_input_as_keras_does(name, rng):
    image = rng.uniform(size=[1, 64, 64, 3]).astype(np.float32)
    constructor = getattr(tf.keras.applications, APPLICATIONS[name][0])
    original = constructor(include_top=False, weights=None, input_shape=(None, None, 3))
    scaled = image * 255
    if name == "resnet50_v2":
        scaled = tf.keras.applications.resnet_v2.preprocess_input(scaled)
    backbone = build_backbone(name, stride=32)
    backbone.layers[-1].set_weights(original.get_weights())
    wanted = original(scaled, training=False)
    np.testing.assert_allclose(backbone(image, training=False), wanted, rtol=1e-3, atol=1e-4)


def test_names_are_complete():
    assert BACKBONES == ("tiny", *APPLICATIONS)
    assert len(BACKBONES) == 7
