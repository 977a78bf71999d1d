"""Products that survive factors of 11 significant bits."""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import matmul
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match


def rounded_to_tf32(x):
    """What a tensor core makes of a factor: the 13 last bits rounded away."""
    bits = np.asarray(x, np.float32).view(np.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(np.float32)


def test_equals_the_plain_product(rng):
    a, b = rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 5, 9))
    for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-14)):
        product = matmul.exact_matmul(tf.constant(a, dtype), tf.constant(b, dtype))
        assert product.dtype == dtype
        np.testing.assert_allclose(product, a @ b, atol=tolerance)


def test_is_exact_also_where_factors_are_rounded_to_tf32(rng, monkeypatch):
    """Skinning: weights that add up to 1, transforms of some metres."""
    weights = rng.dirichlet(np.ones(24), 50).astype(np.float32)
    transforms = rng.normal(0.0, 2.0, (24, 12)).astype(np.float32)
    exact = weights.astype(np.float64) @ transforms.astype(np.float64)

    def tensor_core(a, b):
        product = rounded_to_tf32(a).astype(np.float64) @ rounded_to_tf32(b).astype(np.float64)
        return tf.constant(product, tf.float32)

    monkeypatch.setattr(tf, "matmul", tensor_core)
    plain = tf.matmul(weights, transforms)
    ours = matmul.exact_matmul(tf.constant(weights), tf.constant(transforms))
    assert np.abs(plain - exact).max() > 1e-4
    np.testing.assert_allclose(ours, exact, atol=2e-6)


def test_gradients_equal_those_of_the_plain_product(rng):
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3, 6)))
    upstream = rng.normal(size=(4, 6)).astype(np.float32)
    results = []
    for product in (matmul.exact_matmul, tf.matmul):
        x, y = tf.constant(a), tf.constant(b)
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            scalar = tf.reduce_sum(product(x, y) * upstream)
        results.append(tape.gradient(scalar, [x, y]))
    for ours, reference in zip(*results, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-6)


def test_gradients_against_finite_differences(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    assert_gradients_match(lambda x, y: tf.reduce_sum(tf.sin(matmul.exact_matmul(x, y))), [a, b])


def test_nan_stays_in_its_row(rng):
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4, 5)))
    a[1, 2] = np.nan
    product = matmul.exact_matmul(tf.constant(a), tf.constant(b)).numpy()
    np.testing.assert_array_equal(np.isnan(product), [[False] * 5, [True] * 5, [False] * 5])


def test_compiles_once_also_without_rows(rng):
    batches = [
        [rng.normal(size=(n, 4)).astype(np.float32), np.eye(4, dtype=np.float32)] for n in (2, 5)
    ]
    assert_compiles_once(matmul.exact_matmul, batches)
    empty = matmul.exact_matmul(tf.zeros([0, 4]), tf.zeros([4, 3]))
    assert empty.shape == (0, 3)
