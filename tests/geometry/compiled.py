"""One graph for all batch sizes, under XLA as without, gradients included."""

import numpy as np
import tensorflow as tf


def assert_compiles_once(function, batches, rtol=1e-5, atol=1e-6):
    """Asserts that XLA gives graph mode's values and gradients, each from one trace.

    Args:
      function: takes tensors positionally, returns a tensor or several.
      batches: lists of arrays, one list a call; a dimension in which they differ is unknown to the
        graph. Gradients of a weighted sum of all float outputs go to the float arrays.
      rtol: relative tolerance between the two modes.
      atol: the same, relative to the largest entry of the array compared.
    """
    signature = [_common_spec(arrays) for arrays in zip(*batches, strict=True)]
    assert any(None in spec.shape.as_list() for spec in signature), "every dimension is known"
    graphs = [
        tf.function(_with_gradients(function), signature, autograph=False, jit_compile=jit_compile)
        for jit_compile in (False, True)
    ]
    for batch in batches:
        tensors = [tf.constant(x, spec.dtype) for x, spec in zip(batch, signature, strict=True)]
        plain, compiled = (graph(*tensors) for graph in graphs)
        assert len(plain) == len(compiled)
        for i, (ours, reference) in enumerate(zip(compiled, plain, strict=True)):
            reference = reference.numpy()
            assert np.isfinite(reference).all(), f"result {i} of {batch[0].shape}"
            largest = np.abs(reference).max(initial=0.0)
            np.testing.assert_allclose(
                ours, reference, rtol, atol * max(largest, 1.0), err_msg=f"result {i}"
            )
    assert [graph.experimental_get_tracing_count() for graph in graphs] == [1, 1]


def _common_spec(arrays):
    """Returns the spec that all arrays fit, unknown where they differ."""
    tensors = [tf.convert_to_tensor(x) for x in arrays]
    sizes = zip(*(tensor.shape for tensor in tensors), strict=True)
    return tf.TensorSpec([n[0] if len(set(n)) == 1 else None for n in sizes], tensors[0].dtype)


def _with_gradients(function):
    """Returns the function with the gradients of a weighted sum of its outputs appended."""

    def both(*tensors):
        floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floats)
            outputs = tf.nest.flatten(function(*tensors))
            scalar = sum(_weighted_sum(out) for out in outputs if out.dtype.is_floating)
        gradients = tape.gradient(scalar, floats, unconnected_gradients="zero")
        return [tf.cast(out, scalar.dtype) for out in outputs] + gradients

    return both


def _weighted_sum(out):
    """Sums with weights that differ from entry to entry, so that no gradient cancels."""
    weights = tf.cos(tf.cast(tf.range(tf.size(out)), out.dtype))
    return tf.reduce_sum(tf.reshape(out, [-1]) * weights)
