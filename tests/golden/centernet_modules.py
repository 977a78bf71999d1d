"""Golden tests of the parts of DLA: trees, aggregation, learned upsampling."""

import functools

import numpy as np
import tensorflow as tf

from metrabs_like.layers.backbones.dla import TreeOptions, tree
from metrabs_like.layers.upsampling import LearnedUpsampling, bilinear_kernel
from metrabs_like.systems.centernet.torch_names import load_state, torch_entries
from metrabs_like.systems.centernet.upsampling import ida_up
from tests.golden import npz_cases
from tests.golden.centernet_weights import interpreted, ruled

_TREE, _TREE1, _IDA = "small_tree", "small_tree1", "small_ida"
_INPUTS = ("tree_input", "tree_grad_output", "ida_in", "up")
_EPSILON, _KEPT = 1e-5, 0.9
# Float32 sums of some hundred terms of the order of 1, through up to eight layers.
_ATOL = 2e-5


def cases(path):
    """Lists what a file holds beside inputs."""
    names = []
    for key in npz_cases.load(path):
        is_input = key in ("tree_input", "tree_grad_output") or key.startswith("ida_in")
        if not is_input and not (key.startswith("up") and key.endswith("_input")):
            names.append(key)
    return names


def check(path, key):
    """Compares one quantity with the reference."""
    arrays = npz_cases.load(path)
    if key.endswith("_param_names"):
        _check_names(path, key, [str(name) for name in arrays[key]])
    elif key.startswith("up"):
        np.testing.assert_allclose(_upsampled(arrays, key), arrays[key], rtol=0, atol=_ATOL)
    else:
        results = _aggregated(path) if key.startswith("ida") else _trees(path)
        np.testing.assert_allclose(results[key], arrays[key], rtol=0, atol=_ATOL)


def max_pooled(x):
    """2x2 maxima of `[B, C, H, W]`."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


def projected(x, name, state):
    """A projection in NumPy, float64: 1x1 convolution and normalization.

    Args:
      x: `[B, C, H, W]`.
      name: of the projection.
      state: dict name -> array.

    Returns:
      The result at inference `[B, O, H, W]`, and the running mean and variance after one step of
      training.
    """
    kernel = state[f"{name}.0.weight"][:, :, 0, 0].astype(np.float64)
    y = np.einsum("bchw,oc->bohw", x.astype(np.float64), kernel)
    gamma, beta, mean, variance = (
        state[f"{name}.1.{kind}"].astype(np.float64)
        for kind in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    result = y * scale[:, None, None] + (beta - mean * scale)[:, None, None]
    of_channels = y.transpose(1, 0, 2, 3).reshape(y.shape[1], -1)
    mean = _KEPT * mean + (1 - _KEPT) * of_channels.mean(axis=1)
    variance = _KEPT * variance + (1 - _KEPT) * of_channels.var(axis=1, ddof=1)
    return result, mean, variance


def _nhwc(array):
    return array.transpose(0, 2, 3, 1)


def _nchw(tensor):
    return tensor.numpy().transpose(0, 3, 1, 2)


def _with_rule(inputs, outputs):
    """Makes a model with the rule's weights; returns it and them."""
    model = interpreted(tf.keras.Model(inputs, outputs))
    state = {name: ruled(name, entry.shape) for name, entry in torch_entries(model).items()}
    load_state(model, state)
    return model, state


def _tree(path):
    """The tree of the file's names: as deep as these, with a root of the whole level."""
    arrays = npz_cases.load(path)
    image, result = arrays["tree_input"], arrays["tree_eval"]
    deepest = max(str(name).count("tree1.") for name in arrays["tree_param_names"])
    inputs = tf.keras.Input([None, None, image.shape[1]])
    stride = image.shape[2] // result.shape[2]
    options = {"stride": stride, "has_level_root": True}
    outputs = tree(inputs, result.shape[1], deepest, _TREE, TreeOptions(), **options)
    return _with_rule(inputs, outputs)


@functools.cache
def _trees(path):
    arrays = npz_cases.load(path)
    model, state = _tree(path)
    image = tf.constant(_nhwc(arrays["tree_input"]))
    found = {"tree_eval": _nchw(model(image, training=False))}
    with tf.GradientTape() as tape:
        tape.watch(image)
        trained = model(image, training=True)
    found["tree_train"] = _nchw(trained)
    gradient = tape.gradient(trained, image, _nhwc(arrays["tree_grad_output"]))
    found["tree_train_grad_input"] = _nchw(gradient)
    for name, entry in torch_entries(model).items():
        key = name.removeprefix(f"{_TREE}.").replace(".", "/")
        found[f"tree_after_{key}"] = entry.to_torch()
    found |= _dead_statistics(arrays)
    found["tree1_residual_eval"] = _residual_tree(arrays)
    return found


def _dead_statistics(arrays):
    """Statistics of the projection that is computed in training and never used."""
    image, result = arrays["tree_input"], arrays["tree_eval"]
    name, channels = f"{_TREE}.project", result.shape[1]
    shapes = {"0.weight": (channels, image.shape[1], 1, 1)}
    kinds = ("weight", "bias", "running_mean", "running_var")
    shapes |= {f"1.{kind}": (channels,) for kind in kinds}
    state = {f"{name}.{key}": ruled(f"{name}.{key}", shape) for key, shape in shapes.items()}
    _, mean, variance = projected(max_pooled(image), name, state)
    return {
        "tree_after_project/1/running_mean": mean,
        "tree_after_project/1/running_var": variance,
    }


def _residual_tree(arrays):
    image, result = arrays["tree_input"], arrays["tree1_residual_eval"]
    inputs = tf.keras.Input([None, None, image.shape[1]])
    stride = image.shape[2] // result.shape[2]
    options = TreeOptions(has_residual_root=True)
    outputs = tree(inputs, result.shape[1], 1, _TREE1, options, stride=stride)
    model, _ = _with_rule(inputs, outputs)
    return _nchw(model(_nhwc(image), training=False))


def _ida(path):
    arrays = npz_cases.load(path)
    images = [arrays[key] for key in sorted(arrays) if key.startswith("ida_in")]
    inputs = [tf.keras.Input([None, None, image.shape[1]]) for image in images]
    factors = [images[0].shape[2] // image.shape[2] for image in images]
    outputs = ida_up(inputs, arrays["ida_out0"].shape[1], factors, _IDA)
    return images, _with_rule(inputs, outputs[1:])[0]


@functools.cache
def _aggregated(path):
    images, model = _ida(path)
    found = [_nchw(x) for x in tf.nest.flatten(model([_nhwc(image) for image in images]))]
    return {f"ida_out{i}": array for i, array in enumerate([images[0], *found])}


def _check_names(path, key, names):
    """All names are ours, counters, or of the projection without effect; none of ours is absent."""
    model, prefix = (_tree(path)[0], _TREE) if key.startswith("tree") else (_ida(path)[1], _IDA)
    ours = {name.removeprefix(f"{prefix}.") for name in torch_entries(model)}
    others = {name for name in names if name not in ours}
    assert ours <= set(names)
    assert all(
        name.endswith("num_batches_tracked") or name.startswith("project.") for name in others
    )


def _upsampled(arrays, key):
    factor = int(key.removeprefix("up").split("_")[0])
    if key.endswith("_kernel"):
        return bilinear_kernel(factor)
    layer = LearnedUpsampling(factor)
    return _nchw(layer(_nhwc(arrays[f"up{factor}_input"])))
