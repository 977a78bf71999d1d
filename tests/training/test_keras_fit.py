"""`compile` and `fit` of a wrapped system."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training import keras_fit, precision
from tests.training import run_toy, toy


def test_fit_equals_a_hand_written_loop():
    model, twin = toy.toy_model(), toy.toy_model()
    wrapped = keras_fit.as_keras_model(
        model, toy.masked_square, toy.prepare, optimizer=tf.keras.optimizers.SGD(0.1)
    )
    history = wrapped.fit(run_toy.dataset(), steps_per_epoch=4, epochs=2, verbose=0).history
    batches = list(run_toy.dataset().take(8))
    for batch in batches:
        inputs, targets = toy.prepare(batch, None)
        with tf.GradientTape() as tape:
            terms = toy.masked_square(twin(inputs), targets, 0)
            loss = terms["square"].mean() + 0.3 * terms["near"].mean()
        variables = twin.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient)
    np.testing.assert_allclose(toy.weights_of(model), toy.weights_of(twin), atol=1e-6)
    assert set(history) == {"loss", "square", "near"}
    assert history["loss"][1] < history["loss"][0]


def test_evaluate_weights_terms_by_their_counts():
    model = toy.toy_model()
    wrapped = keras_fit.as_keras_model(model, toy.masked_square, toy.prepare)
    data = toy.as_tensors(toy.toy_batch(12))
    logs = wrapped.evaluate(
        tf.data.Dataset.from_tensor_slices(data).batch(4), verbose=0, return_dict=True
    )
    inputs, targets = toy.prepare(data, None)
    whole = toy.masked_square(model(inputs), targets, 0)
    assert logs["square"] == pytest.approx(float(whole["square"].mean()), rel=1e-5)
    assert logs["near"] == pytest.approx(float(whole["near"].mean()), rel=1e-5)


def test_prepare_gets_a_fresh_seed_each_step_and_none_in_evaluation():
    seeds = []

    def prepare(batch, seed):
        seeds.append(None if seed is None else seed.numpy().tolist())
        return toy.prepare(batch, seed)

    wrapped = keras_fit.FitModel(toy.toy_model(), toy.masked_square, prepare, seed=7)
    wrapped.compile(optimizer="sgd", run_eagerly=True)
    wrapped.fit(run_toy.dataset(), steps_per_epoch=3, verbose=0)
    wrapped.evaluate(run_toy.dataset().take(1), verbose=0)
    assert seeds == [[7, 0], [7, 1], [7, 2], None]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_fit_in_mixed_precision_lowers_the_loss(name):
    with precision.precision_scope(name):
        wrapped = keras_fit.as_keras_model(toy.toy_model(), toy.masked_square, toy.prepare)
        wrapped.compile(optimizer=tf.keras.optimizers.Adam(0.05))
    data = run_toy.dataset().take(8)
    before = wrapped.evaluate(data, verbose=0, return_dict=True)["loss"]
    wrapped.fit(data, epochs=3, verbose=0)
    assert wrapped.evaluate(data, verbose=0, return_dict=True)["loss"] < 0.8 * before
    assert {v.dtype for v in wrapped.system_model.weights} <= {"float32", tf.float32}
