"""DeformableConv2D: its weights, its beginning, saving, precision, empty batches."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.deformable import DeformableConv2D, modulated_deform_conv2d

OPTIONS = {
    "kernel_size": (2, 3),
    "strides": (2, 1),
    "padding": (0, 2),
    "dilation_rate": 2,
    "groups": 2,
    "deformable_groups": 3,
}


def _layer(rng, channels=6, **changes):
    """A layer whose weights are all random, so that its offsets are about a pixel."""
    layer = DeformableConv2D(4, **{"jit_compile": False, "name": "deform", **changes})
    layer.build((None, None, None, channels))
    for weight in layer.weights:
        weight.assign(0.3 * rng.normal(size=weight.shape))
    return layer


def _images(rng, n_images=2, size=(7, 5), channels=6):
    return tf.constant(rng.normal(size=(n_images, *size, channels)), tf.float32)


def test_begins_as_half_of_an_ordinary_convolution(rng):
    tf.keras.utils.set_random_seed(1)
    layer, images = DeformableConv2D(4, jit_compile=False), _images(rng)
    outputs = layer(images)
    expected = tf.nn.conv2d(images, layer.kernel, 1, "SAME") / 2
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
    limit = 1 / np.sqrt(9 * 6)
    kernel = tf.convert_to_tensor(layer.kernel)
    assert 0.9 * limit < float(tf.reduce_max(tf.abs(kernel))) <= limit
    assert not tf.convert_to_tensor(layer.bias).numpy().any()


def test_weights_have_the_released_codes_names_and_order(rng):
    layer = _layer(rng, **OPTIONS)
    shapes = [tuple(weight.shape) for weight in layer.weights]
    assert shapes == [(2, 3, 3, 4), (4,), (2, 3, 6, 54), (54,)]
    named = [layer.kernel, layer.bias]
    named += [layer.conv_offset_mask.kernel, layer.conv_offset_mask.bias]
    assert all(a is b for a, b in zip(layer.weights, named, strict=True))
    assert len(_layer(rng, use_bias=False).weights) == 3


def test_first_two_thirds_of_the_channels_are_dy_and_dx_in_turns(rng):
    layer, images = _layer(rng), _images(rng)
    raw = tf.nn.conv2d(images, layer.conv_offset_mask.kernel, 1, "SAME")
    raw = (raw + layer.conv_offset_mask.bias).numpy()
    offsets, masks = layer.offsets_and_masks(images)
    np.testing.assert_allclose(offsets, raw[..., :18], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masks, 1 / (1 + np.exp(-raw[..., 18:])), rtol=1e-5, atol=1e-5)
    expected = modulated_deform_conv2d(
        images, offsets, masks, layer.kernel, layer.bias, padding=1, jit_compile=False
    )
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, OPTIONS, {"strides": 2}, {"kernel_size": 1, "padding": 0}, {"padding": 0}],
    ids=["default", "all", "stride", "1x1", "unpadded"],
)
def test_output_shape_is_computed(options, rng):
    layer, images = _layer(rng, **options), _images(rng)
    shape = layer(images).shape
    assert layer.compute_output_shape(images.shape) == tuple(shape)
    partial = layer.compute_output_shape((None, None, *images.shape[2:]))
    assert partial == (None, None, *shape[2:])


@pytest.mark.parametrize("batch", [None, 0, 3])
def test_empty_batches_pass_with_zero_gradients(batch, rng):
    """Also where TensorFlow knows while optimising that the batch is empty."""
    layer = _layer(rng, strides=2)

    @tf.function(input_signature=[tf.TensorSpec([batch, 7, 5, 6])], autograph=False)
    def both(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
            value = tf.reduce_sum(outputs**2)
        return outputs, tape.gradient(value, [images, *layer.trainable_variables])

    n_images = batch or 0
    outputs, gradients = both(tf.ones([n_images, 7, 5, 6]))
    assert outputs.shape == (n_images, 4, 3, 4)
    for gradient, tensor in zip(gradients[1:], layer.trainable_variables, strict=True):
        assert gradient.shape == tensor.shape
        assert bool(np.any(gradient)) == bool(n_images)


def test_gradient_reaches_every_weight(rng):
    layer, images = _layer(rng, **OPTIONS), _images(rng)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(images) ** 2)
    for gradient in tape.gradient(value, layer.trainable_variables):
        assert np.isfinite(gradient).all() and np.any(gradient)


def test_some_steps_learn_a_shift(rng):
    """The offsets can do what the 1x1 kernel cannot: look a pixel to the right."""
    tf.keras.utils.set_random_seed(2)
    images = rng.normal(size=(4, 8, 8, 2))
    # smooth along x, so that the gradient shows the way
    images = tf.constant(images + np.roll(images, 1, 2) + np.roll(images, 2, 2), tf.float32)
    wanted = tf.roll(images, -1, axis=2)[:, :, :-2]
    layer = DeformableConv2D(2, 1, padding=0, jit_compile=False)
    layer(images)
    optimizer, losses = tf.keras.optimizers.Adam(0.05), []
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(images)[:, :, :-2] - wanted) ** 2)
        gradients = tape.gradient(loss, layer.trainable_variables)
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < 0.1 * losses[0]
    offsets, _ = layer.offsets_and_masks(images)
    assert abs(float(tf.reduce_mean(offsets[..., 1])) - 1) < 0.3


def _with_gradients(layer, images):
    """The outputs, and the gradients of a smooth function of them for images and weights."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
        value = tf.reduce_sum(tf.sin(tf.cast(outputs, tf.float32)))
    return outputs, tape.gradient(value, [images, *layer.trainable_variables])


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("mixed_bfloat16", {}),
        ("mixed_float16", {}),
        ("float64", {}),
        # a small kernel compiles faster
        ("mixed_bfloat16", {"jit_compile": True, "kernel_size": (1, 2), "padding": (0, 1)}),
        ("mixed_float16", {"jit_compile": True, "kernel_size": (1, 2), "padding": (0, 1)}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value) or "plain",
)
def test_precision_policies(policy, options, rng):
    window = {key: value for key, value in options.items() if key != "jit_compile"}
    full, images = _layer(rng, **window), _images(rng)
    layer = DeformableConv2D(4, **{"jit_compile": False, "dtype": policy, **options})
    layer.build(images.shape)
    layer.set_weights([weight.numpy() for weight in full.weights])
    outputs, gradients = _with_gradients(layer, images)
    expected, expected_gradients = _with_gradients(full, images)
    assert outputs.dtype == {"mixed_bfloat16": tf.bfloat16, "mixed_float16": tf.float16}.get(
        policy, tf.float64
    )
    assert all(weight.dtype != "bfloat16" for weight in layer.weights)
    offsets, masks = layer.offsets_and_masks(tf.cast(images, outputs.dtype))
    assert offsets.dtype == masks.dtype == tf.float32
    # rounding of the inputs (2^-9 for bfloat16) moves offsets and changes samples
    scale = float(tf.reduce_max(tf.abs(expected)))
    tolerance = {"mixed_bfloat16": 2**-5, "mixed_float16": 2**-8}.get(policy, 1e-6)
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, atol=scale * tolerance)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        # A sample that rounding moves over a pixel's edge has another slope: the rest must agree.
        error = np.linalg.norm(tf.cast(gradient, tf.float32) - wanted) / np.linalg.norm(wanted)
        assert error < 8 * tolerance


def test_config_builds_the_same_layer(rng):
    layer = _layer(rng, use_bias=False, **OPTIONS)
    again = DeformableConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.name, again.strides, again.use_bias) == ("deform", (2, 1), False)


def test_keras_file_round_trip(rng, tmp_path):
    inputs = tf.keras.Input([None, None, 6])
    model = tf.keras.Model(inputs, _layer(rng, 4, groups=2)(_layer(rng, name="first")(inputs)))
    images = _images(rng)
    expected = model(images)
    assert model.output_shape == (None, None, None, 4)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images), expected)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_saved_model_round_trip_with_gradients(jit_compile, rng, tmp_path):
    layer = _layer(rng, kernel_size=1, padding=0, jit_compile=jit_compile)
    module = tf.Module()
    module.layer = layer
    specs = [tf.TensorSpec([None, None, None, 6])]
    module.call = tf.function(layer, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    images = _images(rng)
    np.testing.assert_allclose(loaded.call(images), layer(images), rtol=1e-6, atol=1e-6)
    assert loaded.call(images[:0]).shape == (0, 7, 5, 4)
    gradients = []
    for call in (loaded.call, layer):
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = tf.reduce_sum(call(images) ** 2)
        gradients.append(tape.gradient(value, images))
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": 0}, "filters=0 must be a positive int"),
        ({"kernel_size": 0}, "kernel_size=0 must be"),
        ({"strides": (1, 0)}, r"strides=\(1, 0\) must be"),
        ({"padding": -1}, "padding=-1 must be"),
        ({"dilation_rate": "same"}, "dilation_rate='same' must be"),
        ({"groups": 4}, "groups=4 must divide 6 and 4"),
        ({"deformable_groups": 5}, "deformable_groups=5 must divide 6"),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        DeformableConv2D(**{"filters": 4, **changes}).build((None, None, None, 6))
