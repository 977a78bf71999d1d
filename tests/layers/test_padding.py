"""PadToOne and SliceToBatch: empty batches through a convolution, others untouched."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers import PadToOne, SliceToBatch


def _network():
    image = tf.keras.Input([4, 4, 3])
    x = tf.keras.layers.Conv2D(5, 3, padding="same")(PadToOne()(image))
    return tf.keras.Model(image, SliceToBatch()([x, image]))


def test_empty_batch_gets_one_zero_example():
    padded = PadToOne()(tf.zeros([0, 4, 4, 3]))
    np.testing.assert_array_equal(padded, np.zeros([1, 4, 4, 3], np.float32))


def test_other_batches_pass_unchanged(rng):
    x = rng.normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_array_equal(PadToOne()(x), x)
    np.testing.assert_array_equal(SliceToBatch()([PadToOne()(x), x]), x)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_convolution_answers_every_batch(batch, rng):
    network = _network()
    x = rng.normal(size=(batch, 4, 4, 3)).astype(np.float32)
    out = tf.function(network)(tf.constant(x))
    assert out.shape == (batch, 4, 4, 5)
    if batch:
        np.testing.assert_allclose(out, network.layers[2](x), rtol=1e-5, atol=1e-6)


def test_empty_batch_gives_zero_gradients():
    network = _network()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(tf.zeros([0, 4, 4, 3])))
    for gradient in tape.gradient(loss, network.trainable_variables):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape, np.float32))


def test_unknown_batch_traces_once():
    network, n_traces = _network(), []

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3])])
    def call(x):
        n_traces.append(1)
        return network(x)

    assert [call(tf.zeros([b, 4, 4, 3])).shape[0] for b in (0, 1, 3)] == [0, 1, 3]
    assert len(n_traces) == 1


def test_layers_compile_under_xla():
    network = _network()
    call = tf.function(lambda x: SliceToBatch()([PadToOne()(x), x]), jit_compile=True)
    assert call(tf.zeros([0, 3])).shape == (0, 3)
    assert call(tf.zeros([2, 3])).shape == (2, 3)
    assert network.output_shape == (None, 4, 4, 5)
