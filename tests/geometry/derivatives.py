"""Derivatives by central differences in float64, to check ours against."""

import numpy as np
import tensorflow as tf


def assert_gradients_match(function, inputs, rtol=1e-5, atol=1e-7, step=1e-6):
    """Asserts that the gradients of a scalar function equal central differences, entry by entry."""
    inputs = [np.array(x, np.float64) for x in inputs]
    tensors = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    assert value.dtype == tf.float64, "the function must keep float64 for this comparison"
    gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
    graph = tf.function(function)
    for i, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        numeric = np.zeros_like(x)
        for index in np.ndindex(x.shape):
            values = []
            for sign in (1, -1):
                moved = x.copy()
                moved[index] += sign * step
                values.append(graph(*(moved if j == i else y for j, y in enumerate(tensors))))
            numeric[index] = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(gradient, numeric, rtol=rtol, atol=atol, err_msg=f"input {i}")
