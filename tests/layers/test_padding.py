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


@pytest.mark.parametrize(
    ("given", "wanted"), [("uint8", "uint8"), ("int32", "int32"), ("float64", "float32")]
)
def test_types_are_those_of_keras(given, wanted):
    for batch in (0, 2):
        assert PadToOne()(tf.zeros([batch, 3], given)).dtype == wanted
        assert PadToOne(dtype="float16")(tf.ones([batch, 3])).dtype == "float16"


def test_gradient_reaches_the_real_examples_alone(rng):
    x = tf.constant(rng.normal(size=(3, 2)), tf.float32)
    weights = rng.normal(size=(3, 2)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        padded = PadToOne()(x)
        loss = tf.reduce_sum(SliceToBatch()([padded, x[:2]]) * weights[:2])
    np.testing.assert_array_equal(tape.gradient(loss, x), [*weights[:2], [0, 0]])


def test_saved_network_still_answers_an_empty_batch(rng, tmp_path):
    network = _network()
    network.save(tmp_path / "padded.keras")
    again = tf.keras.models.load_model(tmp_path / "padded.keras")
    assert again(tf.zeros([0, 4, 4, 3])).shape == (0, 4, 4, 5)
    x = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(x), network(x))


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
