"""Loss terms: sums and counts combine to the mean over any split."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses.terms import LossTerm, combine


def test_combine_weighs_means():
    terms = {"a": LossTerm(tf.constant(6.0), tf.constant(3.0), 0.5)}
    terms["b"] = LossTerm(tf.constant(-4.0), tf.constant(2.0), tf.constant(2.0))
    total, means = combine(terms)
    assert total.numpy() == pytest.approx(0.5 * 2 - 2 * 2)
    assert {name: float(mean) for name, mean in means.items()} == {"a": 2.0, "b": -2.0}


def test_other_counts_split_a_mean_over_batches(rng):
    x = rng.normal(size=10)
    parts = [x[:3], x[3:]]
    shares = [
        combine({"x": LossTerm(tf.constant(p.sum()), len(p), 1.0)}, {"x": 10})[0] for p in parts
    ]
    np.testing.assert_allclose(sum(shares), x.mean())


def test_nothing_counted_is_zero_with_zero_gradient():
    total = tf.constant(0.0)
    with tf.GradientTape() as tape:
        tape.watch(total)
        loss, means = combine({"x": LossTerm(total, tf.constant(0.0), 1.0)})
    assert loss == 0
    assert means["x"] == 0
    assert tape.gradient(loss, total) == 0
    assert combine({})[0] == 0


def test_a_broken_total_stays_visible():
    assert np.isnan(combine({"x": LossTerm(tf.constant(np.nan), tf.constant(2.0), 1.0)})[0])


def test_missing_counts_are_named():
    term = LossTerm(tf.constant(1.0), tf.constant(1.0), 1.0)
    with pytest.raises(ValueError, match=r"no entry for \['b'\]"):
        combine({"a": term, "b": term}, {"a": 1.0})
