"""ResNet-18 and the tiny pyramid: sizes, parameters, order of layers, training."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.backbones.resnet import build_resnet18
from metrabs_like.layers.backbones.tiny_pyramid import build_tiny_pyramid, scaled_channels

# (builder, channels, sha256 of the layers' names in order: weight files are read by it)
NETWORKS = {
    "resnet18": (build_resnet18, [64, 64, 128, 256, 512], "c20a22756e25003f"),
    "tiny": (build_tiny_pyramid, [16, 32, 64, 96, 128], "43276430c90a861f"),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    build, channels, order = NETWORKS[request.param]
    tf.keras.utils.set_random_seed(0)
    model = build()
    assert model.name == request.param
    return model, channels, order


def test_levels(network):
    model, channels, _ = network
    levels = model(tf.zeros([2, 64, 96, 3]), training=False)
    shapes = [tuple(level.shape) for level in levels]
    assert shapes == [(2, 32 >> i, 48 >> i, n) for i, n in enumerate(channels)]


def test_order_of_layers_is_the_same_in_both_lanes(network):
    model, _, order = network
    names = " ".join(layer.name for layer in model.layers)
    assert hashlib.sha256(names.encode()).hexdigest().startswith(order)


def test_training_reaches_every_variable(network, rng):
    model, _, _ = network
    image = tf.constant(rng.normal(size=[2, 64, 64, 3]), tf.float32)
    statistics = [v.numpy() for v in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        levels = model(image, training=True)
        loss = tf.add_n(
            [tf.reduce_sum(x * rng.normal(size=x.shape).astype(np.float32)) for x in levels]
        )
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    pairs = zip(model.non_trainable_variables, statistics, strict=True)
    assert min(np.abs(v.numpy() - old).max() for v, old in pairs) > 0


def test_examples_do_not_see_each_other(network, rng):
    model, _, _ = network
    images = tf.constant(rng.normal(size=[2, 32, 64, 3]), tf.float32)
    together, alone = model(images, training=False), model(images[:1], training=False)
    for level, own in zip(together, alone, strict=True):
        np.testing.assert_allclose(level[0], own[0], rtol=1e-3, atol=1e-4)


def test_number_of_parameters(network):
    model, _, _ = network
    n_trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    if model.name == "resnet18":
        assert n_trained == 11_689_512 - 512 * 1000 - 1000  # torchvision's, less its classifier
    else:
        assert 0.5e6 < n_trained < 0.8e6


def test_resnet18_pools_as_pytorch_does(network):
    model, _, _ = network
    if model.name != "resnet18":
        assert not any(layer.name == "maxpool" for layer in model.layers)
        return
    image = tf.keras.Input([None, None, 64])
    pool = tf.keras.Model(image, model.get_layer("maxpool")(model.get_layer("maxpool.pad")(image)))
    x = np.zeros([1, 4, 4, 64], np.float32)
    x[0, 1, 1], x[0, 2, 2] = 1, 2
    # windows of three around even pixels
    np.testing.assert_array_equal(pool(x)[0, ..., 0], [[1, 1], [1, 2]])


def test_width_scales_the_tiny_one():
    narrow = build_tiny_pyramid(width=0.25)
    assert [level.shape[-1] for level in narrow.outputs] == [8, 8, 16, 24, 32]


@pytest.mark.parametrize(
    ("channels", "width", "scaled"), [(64, 1, 64), (64, 0.1, 8), (96, 0.25, 24)]
)
def test_scaled_channels_are_multiples_of_eight(channels, width, scaled):
    assert scaled_channels(channels, width) == scaled


@pytest.mark.parametrize("width", [0, -1.0, float("nan")])
def test_bad_widths_are_named(width):
    with pytest.raises(ValueError, match=f"width={width}"):
        build_tiny_pyramid(width=width)
