"""Modulated deformable convolution: against plain ones, a slow NumPy one, and its gradients."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.deformable import modulated_deform_conv2d

# kernel size, strides, padding, dilations, groups, deformable groups; 6 input channels, 4 outputs
VARIANTS = {
    "3x3": ((3, 3), 1, 1, 1, 1, 1),
    "stride 2": ((3, 3), 2, 1, 1, 1, 1),
    "dilation 2": ((3, 3), 1, 2, 2, 1, 1),
    "uneven": ((2, 3), (2, 1), (0, 2), (1, 3), 1, 1),
    "1x1": ((1, 1), 1, 0, 1, 1, 1),
    "groups": ((2, 2), 1, 1, 1, 2, 1),
    "deformable groups": ((3, 1), 1, (1, 0), 1, 1, 3),
    "both groups": ((1, 2), 1, 1, 1, 2, 3),
}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
NAMES = ("inputs", "offsets", "masks", "kernel", "bias")


def _options(variant):
    _, strides, padding, dilations, groups, deformable_groups = variant
    return {
        "strides": strides,
        "padding": padding,
        "dilations": dilations,
        "groups": groups,
        "deformable_groups": deformable_groups,
        "jit_compile": False,
    }


def _pair(value):
    return (value, value) if isinstance(value, int) else value


def _output_size(size, variant):
    return [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, variant[0], *map(_pair, variant[1:4]), strict=True)
    ]


def _arguments(rng, variant=VARIANTS["3x3"], size=(5, 6), n_images=2, spread=1.5, n_outputs=4):
    """Random float64 arguments; no sample within 0.1 px of a whole pixel."""
    n_samples = variant[5] * np.prod(variant[0])
    shape = [n_images, *_output_size(size, variant)]
    offsets = rng.normal(size=[*shape, 2 * n_samples], scale=spread)
    return {
        "inputs": rng.normal(size=[n_images, *size, 6]),
        "offsets": np.floor(offsets) + rng.uniform(0.1, 0.9, size=offsets.shape),
        "masks": rng.uniform(0.1, 1, size=[*shape, n_samples]),
        "kernel": rng.normal(size=[*variant[0], 6 // variant[4], n_outputs]),
        "bias": rng.normal(size=[n_outputs]),
    }


def _tensors(arguments, dtype=tf.float64):
    return {name: tf.constant(value, dtype) for name, value in arguments.items()}


def _sampled(image, y, x):
    """Bilinear value of `[H, W, C]` at one position, zero outside: the definition, slowly."""
    value = np.zeros(image.shape[-1])
    if not (-1 < y < image.shape[0] and -1 < x < image.shape[1]):
        return value
    top, left = int(np.floor(y)), int(np.floor(x))
    for i, j in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
            value += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return value


def _slow(arguments, variant):
    """The convolution by loops over images, pixels, kernel positions and channels."""
    inputs, offsets, masks, kernel, bias = (arguments[name] for name in NAMES)
    strides, padding, dilations = map(_pair, variant[1:4])
    groups, deformable_groups = variant[4:]
    (kh, kw), n_positions = variant[0], np.prod(variant[0])
    n_per_group, n_outputs = kernel.shape[2:]
    outputs = np.tile(bias, [*masks.shape[:3], 1])
    for n, u, v in np.ndindex(*masks.shape[:3]):
        for (i, j), c in itertools.product(np.ndindex(kh, kw), range(inputs.shape[-1])):
            g, k = c * deformable_groups // inputs.shape[-1], i * kw + j
            sample = g * n_positions + k
            dy, dx = offsets[n, u, v, 2 * sample : 2 * sample + 2]
            y = u * strides[0] - padding[0] + i * dilations[0] + dy
            x = v * strides[1] - padding[1] + j * dilations[1] + dx
            value = _sampled(inputs[n, ..., c : c + 1], y, x)[0] * masks[n, u, v, sample]
            group, channel = divmod(c, n_per_group)
            first, last = (q * n_outputs // groups for q in (group, group + 1))
            outputs[n, u, v, first:last] += value * kernel[i, j, channel, first:last]
    return outputs


def _plain(inputs, kernel, variant):
    """An ordinary convolution, group by group."""
    strides, (pad_y, pad_x), dilations = map(_pair, variant[1:4])
    padded = tf.pad(inputs, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
    pairs = zip(tf.split(padded, variant[4], -1), tf.split(kernel, variant[4], -1), strict=True)
    # a strided convolution cannot be dilated in TensorFlow: it is cut out of an unstrided one
    parts = [tf.nn.conv2d(part, k, 1, "VALID", dilations=dilations) for part, k in pairs]
    return tf.concat(parts, axis=-1)[:, :: strides[0], :: strides[1]]


@each_variant
def test_equals_a_slow_formulation(variant, rng):
    arguments = _arguments(rng, variant)
    outputs = modulated_deform_conv2d(**_tensors(arguments), **_options(variant))
    assert outputs.dtype == tf.float64
    np.testing.assert_allclose(outputs, _slow(arguments, variant), rtol=1e-9, atol=1e-9)


@each_variant
def test_zero_offsets_and_masks_of_one_are_an_ordinary_convolution(variant, rng):
    tensors = _tensors(_arguments(rng, variant), tf.float32)
    tensors["offsets"] = tf.zeros_like(tensors["offsets"])
    tensors["masks"] = tf.ones_like(tensors["masks"])
    outputs = modulated_deform_conv2d(**tensors, **_options(variant))
    expected = _plain(tensors["inputs"], tensors["kernel"], variant) + tensors["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=2e-5)


@each_variant
def test_gradients_agree_with_finite_differences(variant, rng):
    tensors = _tensors(_arguments(rng, variant, n_images=1))
    upstream = None

    def scalar(changed):
        nonlocal upstream
        outputs = modulated_deform_conv2d(**{**tensors, **changed}, **_options(variant))
        upstream = rng.normal(size=outputs.shape) if upstream is None else upstream
        return tf.reduce_sum(outputs * upstream)

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = scalar({})
    gradients = tape.gradient(value, tensors)
    for name, tensor in tensors.items():
        # well below the 0.1 px to the next kink; the function is smooth in between
        step = tf.constant(rng.normal(size=tensor.shape)) * 1e-5
        difference = scalar({name: tensor + step}) - scalar({name: tensor - step})
        expected = 2 * tf.reduce_sum(gradients[name] * step)
        np.testing.assert_allclose(difference, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["both groups", "uneven"])
def test_compiled_passes_equal_the_plain_ones(name, rng):
    """Also under an outer compilation, as of a whole training step."""
    variant = VARIANTS[name]
    tensors = _tensors(_arguments(rng, variant), tf.float32)

    def both(jit_compile, **tensors):
        options = {**_options(variant), "jit_compile": jit_compile}
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = modulated_deform_conv2d(**tensors, **options)
            value = tf.reduce_sum(outputs**2)
        return {"outputs": outputs, **tape.gradient(value, tensors)}

    expected = both(False, **tensors)
    outer = tf.function(both, jit_compile=True, autograph=False)
    for actual in (both(True, **tensors), outer(True, **tensors)):
        for name, value in expected.items():
            scale = float(tf.reduce_max(tf.abs(value)))
            np.testing.assert_allclose(actual[name], value, atol=5e-6 * scale, err_msg=name)


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, -2), (-2, 3)])
def test_whole_offsets_shift_the_input(dy, dx, rng):
    arguments = _arguments(rng, size=(7, 8))
    shape = arguments["offsets"].shape
    arguments["offsets"] = np.tile([float(dy), float(dx)], [*shape[:3], shape[3] // 2])
    arguments["masks"] = np.ones_like(arguments["masks"])
    outputs = modulated_deform_conv2d(**_tensors(arguments), **_options(VARIANTS["3x3"]))
    # the input moved the other way, zeros behind it
    padded = np.pad(arguments["inputs"], [[0, 0], [4, 4], [4, 4], [0, 0]])
    moved = padded[:, 3 + dy : 3 + dy + 9, 3 + dx : 3 + dx + 10]
    no_padding = ((3, 3), 1, 0, 1, 1, 1)
    expected = _plain(tf.constant(moved), tf.constant(arguments["kernel"]), no_padding)
    np.testing.assert_allclose(outputs, expected + arguments["bias"], rtol=1e-9, atol=1e-9)


def _read(image, y, x, mask=1.0):
    """Value and gradients of one sample of a one-channel image, through a 1x1 kernel of one."""
    image = tf.constant(image, tf.float32)[tf.newaxis, ..., tf.newaxis]
    offsets, masks = tf.constant([[[[y, x]]]], tf.float32), tf.fill([1, 1, 1, 1], float(mask))
    kernel, strides = tf.ones([1, 1, 1, 1]), tuple(image.shape[1:3])
    with tf.GradientTape() as tape:
        tape.watch([image, offsets, masks])
        value = modulated_deform_conv2d(
            image, offsets, masks, kernel, strides=strides, padding=0, jit_compile=False
        )
    d_image, d_offset, d_mask = tape.gradient(value, [image, offsets, masks])
    value, d_mask = float(tf.squeeze(value)), float(tf.squeeze(d_mask))
    return value, d_image[0, ..., 0].numpy(), d_offset[0, 0, 0].numpy(), d_mask


def test_convention_y_before_x():
    """Offset channel 0 moves down the rows, channel 1 along the columns."""
    image = [[10.0, 20, 30], [40, 50, 60]]
    assert _read(image, 1, 0)[0] == 40
    assert _read(image, 0, 1)[0] == 20
    assert _read(image, 0.5, 0.25, mask=0.5)[0] == 0.5 * (0.5 * 12.5 + 0.5 * 42.5)


def test_border_fades_to_zero_over_one_pixel():
    image = [[10.0, 20], [30, 40]]
    assert _read(image, -0.25, 0)[0] == 7.5
    assert _read(image, 1.5, 1.5)[0] == 10
    for y, x in ((-1, 0), (2, 0), (0, -1), (0, 2), (-1.5, 1), (7, 7)):
        value, d_image, d_offset, d_mask = _read(image, y, x)
        assert value == 0 and d_mask == 0 and not d_image.any() and not d_offset.any()


def test_gradient_at_whole_pixels_is_the_right_hand_one():
    image = [[10.0, 20, 25], [40, 41, 42], [43, 44, 45]]
    value, d_image, d_offset, d_mask = _read(image, 0, 1, mask=0.5)
    assert (value, d_mask) == (10, 20)
    np.testing.assert_array_equal(d_offset, [0.5 * (41 - 20), 0.5 * (25 - 20)])
    np.testing.assert_array_equal(d_image, [[0, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    # on the last row and column what is to the right of it is zero
    np.testing.assert_array_equal(_read(image, 2, 2)[2], [-45, -45])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_without_a_place_are_zero_and_have_no_gradient(bad, rng):
    arguments = _arguments(rng)
    is_bad = rng.random(arguments["masks"].shape) < 0.3
    arguments["offsets"][..., ::2][is_bad] = bad
    without = {**arguments, "masks": np.where(is_bad, 0.0, arguments["masks"])}
    arguments["masks"][is_bad] = np.nan
    without["offsets"] = np.where(np.repeat(is_bad, 2, axis=-1), 0.0, arguments["offsets"])

    def both(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = modulated_deform_conv2d(**tensors, **_options(VARIANTS["3x3"]))
            value = tf.reduce_sum(outputs**2)
        return outputs, tape.gradient(value, tensors)

    outputs, gradients = both(_tensors(arguments))
    expected, expected_gradients = both(_tensors(without))
    np.testing.assert_allclose(outputs, expected, rtol=1e-12)
    for name in ("inputs", "kernel", "bias"):
        np.testing.assert_allclose(gradients[name], expected_gradients[name], rtol=1e-9, atol=1e-9)
    assert not gradients["masks"].numpy()[is_bad].any()
    assert not gradients["offsets"].numpy()[np.repeat(is_bad, 2, axis=-1)].any()
    counted = gradients["masks"].numpy()[~is_bad]
    np.testing.assert_allclose(counted, expected_gradients["masks"].numpy()[~is_bad], rtol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1)])
def test_images_of_one_row_or_column(size, rng):
    variant = VARIANTS["3x3"]
    arguments = _arguments(rng, variant, size=size)
    outputs = modulated_deform_conv2d(**_tensors(arguments), **_options(variant))
    np.testing.assert_allclose(outputs, _slow(arguments, variant), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_empty_batch(jit_compile, rng):
    variant = VARIANTS["1x1"]
    tensors = _tensors(_arguments(rng, variant, n_images=0), tf.float32)
    options = {**_options(variant), "jit_compile": jit_compile}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = modulated_deform_conv2d(**tensors, **options)
    assert outputs.shape == (0, 5, 6, 4)
    for name, gradient in tape.gradient(outputs, tensors).items():
        np.testing.assert_array_equal(gradient, np.zeros(tensors[name].shape), err_msg=name)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_sizes_trace_once(jit_compile, rng):
    variant, n_traces = VARIANTS["1x1"], []
    arguments = _arguments(rng, variant)
    specs = [tf.TensorSpec([None] * 3 + [n]) for n in (6, 2, 1)]

    @tf.function(input_signature=specs, autograph=False, jit_compile=jit_compile)
    def call(*maps):
        n_traces.append(1)
        weights = tf.constant(arguments["kernel"], tf.float32)
        return modulated_deform_conv2d(*maps, weights, padding=0, jit_compile=jit_compile)

    for n_images, height in ((2, 5), (0, 5), (1, 3)):
        cut = {name: arguments[name][:n_images, :height] for name in NAMES[:3]}
        outputs = call(*_tensors(cut, tf.float32).values())
        expected = _slow({**arguments, **cut, "bias": np.zeros(4)}, variant)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    assert len(n_traces) == 1


def test_static_shape_is_known_under_unknown_batch(rng):
    variant = VARIANTS["1x1"]
    tensors = _tensors(_arguments(rng, variant), tf.float32)
    specs = [tf.TensorSpec([None, *tensors[name].shape[1:]]) for name in NAMES[:3]]

    @tf.function(input_signature=specs, autograph=False)
    def call(*maps):
        outputs = modulated_deform_conv2d(*maps, tensors["kernel"], padding=0)
        assert outputs.shape.as_list() == [None, 5, 6, 4]
        return outputs

    call.get_concrete_function()


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_low_precision_keeps_positions_and_interpolation_exact(dtype):
    """Column 301 and a third of a pixel exist in neither dtype's coordinates and weights."""
    image = np.zeros([1, 1, 400, 1], np.float32)
    image[0, 0, 301:303, 0] = 0, 768
    offsets = tf.constant([[[[0.0, 301 + 1 / 3]]]])
    arguments = tf.constant(image, dtype), offsets, tf.ones([1, 1, 1, 1]), tf.ones([1, 1, 1, 1])
    outputs = modulated_deform_conv2d(*arguments, strides=(1, 400), padding=0, jit_compile=False)
    assert outputs.dtype == dtype
    assert float(outputs[0, 0, 0, 0]) == 256


def test_low_precision_gradients_have_the_arguments_dtypes(rng):
    tensors = _tensors(_arguments(rng), tf.bfloat16)
    tensors["offsets"] = tf.cast(tensors["offsets"], tf.float32)
    full = {name: tf.cast(tensor, tf.float32) for name, tensor in tensors.items()}

    def gradients(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = modulated_deform_conv2d(**tensors, **_options(VARIANTS["3x3"]))
            value = tf.reduce_sum(tf.cast(outputs, tf.float32))
        return tape.gradient(value, tensors)

    expected = gradients(full)
    for name, gradient in gradients(tensors).items():
        assert gradient.dtype == tensors[name].dtype
        scale = float(tf.reduce_max(tf.abs(expected[name])))
        # some roundings to 8 bits
        np.testing.assert_allclose(
            tf.cast(gradient, tf.float32), expected[name], atol=scale / 32, err_msg=name
        )


def test_images_of_a_batch_do_not_mix(rng):
    tensors = _tensors(_arguments(rng, n_images=3, spread=4.0))
    options = _options(VARIANTS["3x3"])
    outputs = modulated_deform_conv2d(**tensors, **options)
    maps = {name: tensors.pop(name)[1:2] for name in NAMES[:3]}
    np.testing.assert_allclose(
        modulated_deform_conv2d(**maps, **tensors, **options), outputs[1:2], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": tf.zeros([2, 5, 6, 7])}, "`inputs` has shape .*6"),
        ({"inputs": tf.zeros([2, 5, 6, 6], tf.int32)}, "inputs are int32.*cast"),
        ({"offsets": tf.zeros([2, 5, 6, 9])}, "`offsets` has shape .*18"),
        ({"offsets": tf.zeros([2, 4, 6, 18])}, "`offsets` has shape .*5"),
        ({"masks": tf.zeros([1, 5, 6, 9])}, "`masks` has shape"),
        ({"bias": tf.zeros([3])}, "`bias` has shape"),
        ({"kernel": tf.zeros([3, 6, 4])}, "kernel has shape .*pass"),
        ({"groups": 5}, "groups=5 must divide"),
        ({"deformable_groups": 4}, "deformable_groups=4 must divide 6"),
        ({"strides": 0}, "strides=0 must be"),
        ({"padding": (1, 1, 1)}, "padding=.* must be"),
        ({"dilations": 1.5}, "dilations=1.5 must be"),
    ],
)
def test_unfitting_arguments_are_named(changes, message, rng):
    arguments = {**_tensors(_arguments(rng), tf.float32), "padding": 1, "jit_compile": False}
    with pytest.raises(ValueError, match=message):
        modulated_deform_conv2d(**{**arguments, **changes})
