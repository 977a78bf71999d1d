"""Golden tests of the modulated deformable convolution: outputs and all gradients."""

import functools

import numpy as np
import tensorflow as tf

from metrabs_like.layers.deformable import DeformableConv2D, modulated_deform_conv2d
from tests.golden import closeness, npz_cases

_MODES = ("graph", "xla")
_ARGUMENTS = ("input", "offset", "mask", "weight", "bias")
_FUNCTION_KEYS = {
    *_ARGUMENTS,
    "output",
    "grad_output",
    *(f"grad_{name}" for name in _ARGUMENTS),
}
_LAYER_KEYS = {
    "input",
    "weight",
    "bias",
    "conv_offset_mask.weight",
    "conv_offset_mask.bias",
    "offset_mask_raw",
    "output",
}
# Options that a file may state; the defaults are those of the files of the released code.
_OPTIONS = {"stride": "strides", "padding": "padding", "dilation": "dilations"}


def cases(path):
    """Returns each case in each mode; a key that belongs to none becomes a case that fails."""
    arrays = npz_cases.load(path)
    keys = {name: set(_own(arrays, name)) for name in _names(arrays)}
    known = {f"{name}_{key}" for name, own in keys.items() for key in own & _known(own)}
    unknown = [f"unknown {key}" for key in sorted(set(arrays) - known)]
    return [f"{name} {mode}" for name in keys for mode in _MODES] + unknown


def check(path, name):
    """Compares the output, and for the function the five gradients, with the reference."""
    case, mode = name.rsplit(" ", 1)
    assert case != "unknown", f"{path}: no test knows the array {mode}"
    own = _own(npz_cases.load(path), case)
    missing = (_LAYER_KEYS if _is_layer(own) else _FUNCTION_KEYS) - set(own)
    assert not missing, f"{path}, case {case}: {sorted(missing)} are missing"
    (_check_layer if _is_layer(own) else _check_function)(own, mode == "xla", f"{path.stem} {name}")


def _check_function(own, is_compiled, context):
    convolution = functools.partial(
        modulated_deform_conv2d, **_options(own), jit_compile=is_compiled
    )

    @functools.partial(tf.function, autograph=False, jit_compile=is_compiled)
    def both(upstream, *arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            outputs = convolution(*arguments)
        return outputs, tape.gradient(outputs, arguments, output_gradients=upstream)

    upstream = tf.constant(_channels_last(own["grad_output"]))
    arguments = [tf.constant(_converted(key, own[key])) for key in _ARGUMENTS]
    outputs, gradients = both(upstream, *arguments)
    _assert_close(outputs, _channels_last(own["output"]), "value", f"{context} output")
    for key, gradient in zip(_ARGUMENTS, gradients, strict=True):
        reference = _converted(key, own[f"grad_{key}"])
        _assert_close(gradient, reference, "grad", f"{context} grad_{key}")


def _check_layer(own, is_compiled, context):
    options = _options(own)
    layer = DeformableConv2D(
        own["weight"].shape[0],
        own["weight"].shape[2:],
        strides=options["strides"],
        padding=options["padding"],
        dilation_rate=options["dilations"],
        groups=options["groups"],
        deformable_groups=options["deformable_groups"],
        jit_compile=is_compiled,
    )
    inputs = tf.constant(_channels_last(own["input"]))
    layer.build(inputs.shape)
    layer.kernel.assign(_converted("weight", own["weight"]))
    layer.bias.assign(own["bias"])
    layer.conv_offset_mask.kernel.assign(_converted("weight", own["conv_offset_mask.weight"]))
    layer.conv_offset_mask.bias.assign(own["conv_offset_mask.bias"])
    call = tf.function(layer, autograph=False, jit_compile=is_compiled)
    _assert_close(call(inputs), _channels_last(own["output"]), "value", f"{context} output")
    offsets, masks = layer.offsets_and_masks(inputs)
    raw = _channels_last(own["offset_mask_raw"])
    n_offsets = offsets.shape[-1]
    _assert_close(offsets, raw[..., :n_offsets], "value", f"{context} offsets")
    expected = 1 / (1 + np.exp(-raw[..., n_offsets:].astype(np.float64)))
    _assert_close(masks, expected, "value", f"{context} masks")


def _names(arrays):
    """The cases: what stands before `_input`."""
    inputs = [key for key in arrays if key.endswith("_input") and not key.endswith("grad_input")]
    return sorted(key.removesuffix("_input") for key in inputs)


def _own(arrays, name):
    """A case's arrays by what stands behind its name."""
    return {
        key.removeprefix(f"{name}_"): value
        for key, value in arrays.items()
        if key.startswith(f"{name}_")
    }


def _is_layer(own):
    return any(key.startswith("conv_offset_mask") for key in own)


def _known(own):
    return (_LAYER_KEYS if _is_layer(own) else _FUNCTION_KEYS) | set(_OPTIONS)


def _options(own):
    """The convolution's options: stated, or following from the shapes."""
    n_inputs, (_, n_per_group, *size) = own["input"].shape[1], own["weight"].shape
    raw = own["offset_mask_raw"].shape[1] // 3 if _is_layer(own) else own["mask"].shape[1]
    options = {"strides": 1, "dilations": 1, "padding": tuple((k - 1) // 2 for k in size)}
    for key, option in _OPTIONS.items():
        if key in own:
            options[option] = tuple(np.broadcast_to(own[key], [2]).tolist())
    groups = {"groups": n_inputs // n_per_group, "deformable_groups": raw // (size[0] * size[1])}
    return {**options, **groups}


def _converted(key, array):
    """An argument or its gradient, from the released code's layout to ours."""
    if key == "bias":
        return array
    return array.transpose(2, 3, 1, 0) if key == "weight" else _channels_last(array)


def _channels_last(array):
    return array.transpose(0, 2, 3, 1)


def _assert_close(actual, reference, kind, context):
    # One example: the reference is float64, so that all noise is our float32's, which sums over
    # channels and positions carry from their largest part.
    closeness.assert_close(actual[np.newaxis], reference[np.newaxis], kind, context=context)


FILES = {"dcn": npz_cases.FileTest(cases, check)}
