"""The network and its losses on a GPU, where there is one."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems import metrabs

from . import metrabs_batches


@pytest.mark.gpu
@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="needs a GPU")
def test_loss_and_gradients_are_those_of_the_cpu(rng):
    config = metrabs.tiny_config()
    model = metrabs.build_model(config)
    batch = metrabs_batches.make_batch(rng, 4, config)
    found = []
    for device in ("/CPU:0", "/GPU:0"):
        with tf.device(device), tf.GradientTape() as tape:
            inputs, targets = metrabs.prepare(batch, config, None)
            loss, _ = metrabs.compute_loss(model(inputs), targets, config, 20)
        gradients = tape.gradient(loss, model.trainable_variables)
        found.append([loss, *(g for g in gradients if g is not None)])
    for cpu, gpu in zip(*found, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=5e-2, atol=1e-3 * np.abs(cpu).max() + 1e-6)
