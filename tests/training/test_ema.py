"""Averaged weights."""

import numpy as np
import tensorflow as tf

from metrabs_like.training.ema import WeightAverage
from tests.training import toy


def test_average_by_hand_with_warm_up():
    weight = tf.Variable([0.0])
    average = WeightAverage([weight], momentum=0.5, warmup=True)
    wanted = 0.0
    for n, value in enumerate([1.0, 5.0, -2.0, 4.0, 4.0, 9.0, 1.0, 0.0, 3.0, 8.0, 2.0]):
        weight.assign([value])
        average.update()
        momentum = min(0.5, (1 + n) / (10 + n))
        wanted = momentum * wanted + (1 - momentum) * value
        np.testing.assert_allclose(average.averages[0].numpy(), [wanted], rtol=1e-5)


def test_applied_puts_the_weights_back_even_after_an_error():
    model = toy.toy_model(batch_norm=True)
    average = WeightAverage(model.weights, 0.9)
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    own = toy.weights_of(model)
    try:
        with average.applied():
            assert not np.array_equal(toy.weights_of(model), own)
            raise RuntimeError
    except RuntimeError:
        pass
    np.testing.assert_array_equal(toy.weights_of(model), own)


def test_no_momentum_means_the_weights_themselves():
    model = toy.toy_model()
    average = WeightAverage(model.weights, 0.0)
    own = toy.weights_of(model)
    average.update()
    with average.applied():
        np.testing.assert_array_equal(toy.weights_of(model), own)
    assert average.averages == []


def test_integer_weights_stay_as_they_are():
    counter = tf.Variable(3)
    average = WeightAverage([counter, tf.Variable(1.0)], momentum=0.9)
    average.update()
    average.copy_to_model()
    assert int(counter) == 3 and len(average.averages) == 1
