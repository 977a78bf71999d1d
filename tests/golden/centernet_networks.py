"""Golden tests of centernet's networks: DLA-34 with its heads, its parts, the rule of weights."""

import functools
import re

import numpy as np
import tensorflow as tf

from metrabs_like.systems.centernet.model import NormalizedBgr
from metrabs_like.systems.centernet.torch_names import state_dict_of
from tests.golden import centernet_modules, centernet_weights, npz_cases
from tests.golden.npz_cases import FileTest

_MEAN, _STDEV = (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835)
_INPUTS = ("image", "sub_strides")
_KINDS = ("_stats", "_shape", "_channel_mean", "_corner")
# What follows a module's name in that of the layer which gives its output.
_LAST_LAYERS = ("", ".relu", ".root.relu", ".actf.1", ".2", ".1")
# Absolute, behind the deformable convolutions: 1e-3 with offsets of the factor 0.1, 2e-4 with 0.01.
# The float32 noise of the reference is 1.1e-4 and 2.5e-5 in heads: it moves samples, the more the
# farther apart they lie; ours errs as much, in another order of adding. Heads have numbers of
# about 16, coarse aggregates up to 500: theirs grows with them.
_TOLERANCE, _TOLERANCE_BY_FACTOR = 2e-4, 1e-2
_HEAD_SIZE = 16.0
# Relative to the largest number, in the base: the noise of float32 sums alone.
_BASE_RTOL = 1e-5
# The normalized image: one rounding of an intensity, divided by the standard deviation.
_INPUT_ATOL = 1e-6


def _cases(path):
    return [key for key in npz_cases.load(path) if key not in _INPUTS]


def _quantity(key):
    """Removes what tells the kind of a summary."""
    return re.sub(f"({'|'.join(_KINDS)})$", "", key)


def image_of(path):
    """Returns the network's RGB input `[B, H, W, 3]`, 0..1, of this file or its sibling."""
    arrays = npz_cases.load(path)
    if "input" not in arrays:  # "same input": of the file without a factor in its name
        return image_of(path.with_name(re.sub(r"_offset\d+", "", path.name)))
    bgr = arrays["input"].transpose(0, 2, 3, 1) * np.float32(_STDEV) + np.float32(_MEAN)
    if "image" in arrays:
        bgr = arrays["image"][np.newaxis] / np.float32(255)
    n_outputs = next(len(arrays[key]) for key in arrays if key.startswith("head_"))
    if n_outputs == 2 * len(bgr):
        bgr = np.concatenate([bgr, bgr[:, :, ::-1]])
    return bgr[..., ::-1]


@functools.cache
def _outputs(path):
    """Runs the network once; returns all quantities of the file, `[B, C, H, W]`."""
    folder = path.parent
    model = centernet_weights.network(folder, centernet_weights.offset_factor_of(path))
    base = model.get_layer("dla34")
    image = image_of(path)
    names = {_quantity(key) for key in _cases(path)}
    in_base = {f"level{i}": level for i, level in enumerate(base.outputs)}
    in_base |= {
        name: layer.output
        for name in names
        if (layer := _layer(base, name.removeprefix("tap_base/"))) and name.startswith("tap_base/")
    }
    behind = {
        name: layer.output for name in names if (layer := _layer(model, _module(name, model)))
    }
    matrices = np.tile(np.eye(3, dtype=np.float32), [len(image), 1, 1])
    inputs = {"image": image, "input_from_image": matrices}
    normalized = NormalizedBgr()(image)
    found = {"input": normalized}
    found |= tf.keras.Model(base.inputs, in_base)(normalized, training=False)
    found |= tf.keras.Model(model.inputs, behind)(inputs, training=False)
    coarsest = next((name for name in names - set(behind) if name.startswith("dla_up")), None)
    if coarsest:
        found[coarsest] = found["level5"]  # unchanged
    found = {name: value.numpy().transpose(0, 3, 1, 2) for name, value in found.items()}
    for name in names - set(found):
        found[name] = _dead_projection(folder, name.removeprefix("tap_base/"), found)
    return found


def _module(name, model):
    """The path of the module behind the base whose output a quantity is."""
    if name.startswith("head_"):
        return name.removeprefix("head_")
    if name == "feature":
        return f"ida_up/node_{_n_nodes(model, 'ida_up')}"
    if name.startswith("dla_up"):  # the last step gives the first, finest one
        step = sum(bool(_n_nodes(model, f"dla_up/ida_{i}")) for i in range(5)) - 1
        step -= int(name.removeprefix("dla_up"))
        return f"dla_up/ida_{step}/node_{_n_nodes(model, f'dla_up/ida_{step}')}"
    return name.removeprefix("tap_")


def _n_nodes(model, path):
    return sum(_layer(model, f"{path}/node_{i}") is not None for i in range(1, 6))


def _layer(model, path):
    """Returns the layer that gives a module's output, None if there is none."""
    layers = {layer.name: layer for layer in model.layers}
    name = path.replace("/", ".")
    for _ in range(5):
        found = [layers[name + last] for last in _LAST_LAYERS if name + last in layers]
        if found:
            return found[0]
        name += ".tree2"  # a tree of trees: its second one has the root
    return None


def _dead_projection(folder, path, found):
    """What a projection gives that the released network computes and never uses."""
    match = re.fullmatch(r"level(\d)/project", path)
    assert match, f"no layer gives {path}"
    name = f"base.{path.replace('/', '.')}"
    x = centernet_modules.max_pooled(found[f"level{int(match[1]) - 1}"])
    state = centernet_weights.state(folder)
    return centernet_modules.projected(x, name, state)[0]


def _check(path, key):
    reference = npz_cases.load(path)[key]
    name = _quantity(key)
    actual = _outputs(path)[name]
    if name == "input":
        actual = actual[: len(reference)]  # the rest is its mirror image
    tolerance = _tolerance(path, name, actual)
    if key.endswith("_shape"):
        assert actual.shape == tuple(reference)
    elif key.endswith("_stats"):
        _assert_statistics(actual.astype(np.float64), reference, tolerance)
    elif key.endswith("_channel_mean"):
        means = actual.mean(axis=(0, 2, 3), dtype=np.float64)
        np.testing.assert_allclose(means, reference, rtol=0, atol=tolerance)
    else:
        if key.endswith("_corner"):
            actual = actual[:, :, : reference.shape[2], : reference.shape[3]]
        else:
            steps = [-(-n // m) for n, m in zip(actual.shape, reference.shape, strict=True)]
            actual = actual[:, :: steps[1], :: steps[2], :: steps[3]]
        assert actual.shape == reference.shape
        np.testing.assert_allclose(actual, reference, rtol=0, atol=tolerance)


def _tolerance(path, name, actual):
    if name == "input":
        return _INPUT_ATOL
    largest = np.abs(actual).max()
    if name.startswith(("level", "tap_base")):
        return _BASE_RTOL * largest
    tolerance = max(_TOLERANCE, _TOLERANCE_BY_FACTOR * centernet_weights.offset_factor_of(path))
    is_head = name.startswith("head_")
    return tolerance if is_head else tolerance * max(1.0, largest / _HEAD_SIZE)


def _assert_statistics(array, reference, tolerance):
    """Sum, mean, standard deviation, largest size, sum of squares: as far off as all elements."""
    total, mean, stdev, largest, square = reference
    n_items = array.size
    assert abs(array.sum() - total) <= tolerance * n_items
    assert abs(array.mean() - mean) <= tolerance
    assert abs(array.std() - stdev) <= tolerance
    assert abs(np.abs(array).max() - largest) <= tolerance
    assert abs((array**2).sum() - square) <= 2 * tolerance * np.sqrt(square * n_items)


def _check_rule(path, key):
    """The rule gives the reference's weights, and the network holds them."""
    reference = npz_cases.load(path)[key]
    name = key.replace("/", ".")
    array = centernet_weights.ruled(name, centernet_weights.entries(path.parent)[name])
    held = state_dict_of(centernet_weights.network(path.parent))
    for found in (array, held.get(name, array)):
        found = found.astype(np.float64)
        stats = [found.sum(), found.mean(), found.std(), np.abs(found).max(), (found**2).sum()]
        first = found.ravel()[: len(reference) - 5]
        # the same float32 numbers, added in another order
        np.testing.assert_allclose([*stats, *first], reference, rtol=1e-12, atol=1e-12)


FILES = {
    "dla34": FileTest(_cases, _check),
    "dla_small_modules": FileTest(centernet_modules.cases, centernet_modules.check),
    "weight_rule_check": FileTest(lambda path: list(npz_cases.load(path)), _check_rule),
}
