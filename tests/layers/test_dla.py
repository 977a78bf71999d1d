"""DLA bases: sizes, names, parameters, what a tree computes, training."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.backbones.dla import BASES, TreeOptions, build_dla, tree

# Weight files are read by the order of layers, about which both Keras generations must agree.
ORDER_SHA256 = "8f914ccbdf7a82a8"
WIDTH = 0.125  # of small networks


@pytest.fixture(scope="module")
def small():
    tf.keras.utils.set_random_seed(0)
    return build_dla(width=WIDTH)


def _shapes(model, image):
    return [tuple(level.shape) for level in model(image, training=False)]


def _root_inputs(model):
    """Channels that each root's convolution reads."""
    return {
        layer.name.removesuffix(".root.conv"): layer.kernel.shape[2]
        for layer in model.layers
        if layer.name.endswith("root.conv")
    }


def test_dla34_is_the_published_network_without_what_has_no_effect():
    model = build_dla()
    n_trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    # the published classifier, less its last layer and the projections of level 3 and 4
    assert n_trained == 15_783_832 - 513_000 - 41_728
    assert _root_inputs(model) == {
        "level2": 128,
        "level3.tree1": 256,
        "level3.tree2": 448,
        "level4.tree1": 512,
        "level4.tree2": 896,
        "level5": 1280,
    }


def test_order_of_layers_is_the_same_in_both_lanes(small):
    names = " ".join(layer.name for layer in small.layers)
    assert hashlib.sha256(names.encode()).hexdigest().startswith(ORDER_SHA256)


def test_levels_of_dla34(small):
    channels = [2, 4, 8, 16, 32, 64]
    shapes = _shapes(small, tf.zeros([2, 64, 96, 3]))
    assert shapes == [(2, 64 >> i, 96 >> i, n) for i, n in enumerate(channels)]


@pytest.mark.parametrize(
    "name",
    [
        "dla46_c",
        pytest.param("dla60", marks=pytest.mark.slow),
        pytest.param("dla102", marks=pytest.mark.slow),
    ],
)
def test_levels_of_the_other_bases(name):
    model = build_dla(name, width=WIDTH)
    channels = [int(WIDTH * n) for n in BASES[name].channels]
    shapes = _shapes(model, tf.zeros([1, 32, 64, 3]))
    assert shapes == [(1, 32 >> i, 64 >> i, n) for i, n in enumerate(channels)]
    has_sums = any(layer.name.endswith("root.add") for layer in model.layers)
    assert has_sums == BASES[name].has_residual_root
    block = [model.get_layer(f"level5.tree1.conv{i}").kernel.shape for i in (1, 2, 3)]
    inner, outer = channels[5] // 2, channels[5]
    assert block[0][::3] == (1, inner) and block[2] == (1, 1, inner, outer)
    assert block[1] == (3, 3, inner, inner)


@pytest.mark.parametrize(
    "options", [{"dilation": 2}, {"root_kernel_size": 3}, {"has_residual_root": True}], ids=str
)
def test_options_keep_the_sizes_and_change_the_network(small, options, rng):
    model = build_dla(width=WIDTH, **options)
    image = tf.constant(rng.normal(size=[1, 64, 64, 3]), tf.float32)
    assert _shapes(model, image) == _shapes(small, image)
    if "root_kernel_size" in options:
        assert model.get_layer("level5.root.conv").kernel.shape[:2] == (3, 3)
        return
    model.set_weights(small.get_weights())
    before, after = (m(image, training=False)[5].numpy() for m in (small, model))
    assert np.abs(after - before).max() > 0.01 * np.abs(before).max()


def _identity(model):
    """Makes 1x1 and 3x3 convolutions pass channel i on to channel i, normalizations nothing."""
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, np.float32)
            middle = kernel.shape[0] // 2
            for i in range(min(kernel.shape[2:])):
                kernel[middle, middle, i, i] = 1
            layer.set_weights([kernel])


def _tree(channels=1, depth=1, options=None, **kwargs):
    image = tf.keras.Input([None, None, 1])
    outputs = tree(image, channels, depth, "tree", options or TreeOptions(), **kwargs)
    model = tf.keras.Model(image, outputs)
    _identity(model)
    return model


def test_hand_computed_tree():
    """Every 3x3 passes on its centre: x1 = x + x, x2 = x1 + x1; the root's first input is x2."""
    image = np.arange(1.0, 17).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(_tree()(image), 4 * image, rtol=1e-4)
    residual = _tree(options=TreeOptions(has_residual_root=True))
    np.testing.assert_allclose(residual(image), 8 * image, rtol=1e-4)


def test_hand_computed_strided_tree():
    """The block looks at even pixels, its shortcut at the maximum of four."""
    image = np.arange(1.0, 17).reshape(1, 4, 4, 1)
    seen, maxima = image[:, ::2, ::2], image[:, 1::2, 1::2]
    np.testing.assert_allclose(_tree(stride=2)(image), 2 * (seen + maxima), rtol=1e-4)


def test_bases_are_all_tested_here():
    assert set(BASES) == {"dla34", "dla46_c", "dla60", "dla102"}


def test_children_come_last_to_the_root():
    shapes = {
        has_root: _root_inputs(_tree(channels=8, depth=2, stride=2, has_level_root=has_root))
        for has_root in (False, True)
    }
    assert shapes[False] == {"tree.tree1": 16, "tree.tree2": 24}
    assert shapes[True] == {"tree.tree1": 16, "tree.tree2": 25}  # the pooled input as well


def test_projection_only_where_channels_differ():
    names = [
        [layer.name for layer in _tree(channels).layers if "project" in layer.name]
        for channels in (1, 4)
    ]
    assert names == [[], ["tree.project.0", "tree.project.1"]]


def test_training_reaches_every_variable(small, rng):
    image = tf.constant(rng.normal(size=[2, 64, 64, 3]), tf.float32)
    statistics = [v.numpy() for v in small.non_trainable_variables]
    with tf.GradientTape() as tape:
        levels = small(image, training=True)
        loss = tf.add_n(
            [tf.reduce_sum(x * rng.normal(size=x.shape).astype(np.float32)) for x in levels]
        )
    for gradient in tape.gradient(loss, small.trainable_variables):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    changed = [
        np.abs(v.numpy() - old).max()
        for v, old in zip(small.non_trainable_variables, statistics, strict=True)
    ]
    assert min(changed) > 0


def test_examples_do_not_see_each_other(small, rng):
    images = tf.constant(rng.normal(size=[2, 32, 32, 3]), tf.float32)
    together, alone = small(images, training=False), small(images[1:], training=False)
    for level, own in zip(together, alone, strict=True):
        np.testing.assert_allclose(level[1], own[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "dla35"}, "dla35.*dla34"),
        ({"dilation": 0}, "dilation=0"),
        ({"width": 0.0}, "width=0.0"),
        ({"root_kernel_size": 2}, "kernel_size=2"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        build_dla(**options)
