"""TensorFlow Addons as a second opinion, where it exists."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import warping


def test_bilinear_sampling_and_its_gradients(rng):
    tfa = pytest.importorskip(
        "tensorflow_addons", reason="the oracle is TensorFlow Addons, only in the addons lane"
    )
    images = tf.constant(rng.uniform(size=(3, 9, 12, 2)), tf.float32)
    points = tf.constant(rng.uniform(0.1, [10.9, 7.9], (3, 40, 2)), tf.float32)
    weights = tf.constant(rng.normal(size=(3, 40, 2)), tf.float32)
    found = []
    for sample in (
        warping.bilinear_sample,
        lambda grid, query: tfa.image.interpolate_bilinear(grid, query, indexing="xy"),
    ):
        with tf.GradientTape() as tape:
            tape.watch([images, points])
            values = sample(images, points)
            weighted = tf.reduce_sum(values * weights)
        found.append([values, *tape.gradient(weighted, [images, points])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, tf.convert_to_tensor(theirs), atol=2e-5)
