"""The focal loss on heat maps: by hand, its gradient, empty truths, what does not count."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses.focal import clamped_sigmoid, expected_focal_count, focal_term


def _value_and_gradient(logits, heatmap_true):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        mean = focal_term(clamped_sigmoid(logits), heatmap_true).mean()
    return mean.numpy(), tape.gradient(mean, logits).numpy()


def _example(rng, shape=(2, 5, 6, 3)):
    heatmap = rng.uniform(0, 0.99, shape).astype(np.float32)
    heatmap[0, 1, 2, 0] = heatmap[1, 3, 3, 2] = 1
    return rng.normal(size=shape).astype(np.float32), heatmap


def _straightforward(probabilities, heatmap):
    """The formula of the paper, cell by cell, in float64."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(heatmap, np.float64)
    positive = np.sum(np.log(p[y == 1]) * (1 - p[y == 1]) ** 2)
    negative = np.sum(np.log(1 - p[y < 1]) * p[y < 1] ** 2 * (1 - y[y < 1]) ** 4)
    return -(positive + negative), np.sum(y == 1)


def test_value_by_hand():
    probabilities, heatmap = tf.constant([0.5, 0.5, 0.5]), tf.constant([1.0, 0.0, 0.5])
    term = focal_term(probabilities, heatmap)
    np.testing.assert_allclose(term.total, 0.25 * np.log(2) * (1 + 1 + 1 / 16), rtol=1e-6)
    assert term.count == 1


def test_value_is_the_papers(rng):
    logits, heatmap = _example(rng)
    probabilities = clamped_sigmoid(logits)
    total, count = _straightforward(probabilities, heatmap)
    term = focal_term(probabilities, heatmap)
    np.testing.assert_allclose(term.total, total, rtol=1e-5)
    assert term.count == count == expected_focal_count(heatmap) == 2
    np.testing.assert_allclose(term.mean(), total / 2, rtol=1e-5)


def test_gradient_is_that_of_finite_differences(rng):
    logits, heatmap = _example(rng, (2, 4, 4, 3))
    gradient = _value_and_gradient(logits, heatmap)[1]
    step = 1e-4
    for index in [(0, 1, 2, 0), (1, 3, 3, 2), (0, 0, 0, 0), (1, 2, 1, 1)]:
        ends = []
        for sign in (-1, 1):
            moved = logits.astype(np.float64)
            moved[index] += sign * step
            total, count = _straightforward(1 / (1 + np.exp(-moved)), heatmap)
            ends.append(total / count)
        np.testing.assert_allclose(gradient[index], (ends[1] - ends[0]) / (2 * step), rtol=1e-3)


def test_saturated_logits_have_a_bounded_value_and_no_gradient():
    logits = np.array([40.0, -40.0, 40.0, -40.0, 9.0], np.float32)
    heatmap = np.array([0.0, 1.0, 1.0, 0.0, 0.0], np.float32)
    value, gradient = _value_and_gradient(logits, heatmap)
    assert 0 < value < 3 * -np.log(1e-4)
    np.testing.assert_array_equal(gradient[:4], 0)
    assert gradient[4] > 0


def test_without_a_positive_the_sum_trains_the_background(rng):
    logits, heatmap = _example(rng)
    heatmap = np.minimum(heatmap, 0.9)
    total, count = _straightforward(clamped_sigmoid(logits), heatmap)
    value, gradient = _value_and_gradient(logits, heatmap)
    np.testing.assert_allclose(value, total, rtol=1e-5)
    assert count == 0
    assert (gradient > 0).any()
    assert expected_focal_count(heatmap) == 1


def test_parts_of_a_batch_add_up_to_the_whole(rng):
    logits, heatmap = _example(rng)  # a positive in each image
    whole = focal_term(clamped_sigmoid(logits), heatmap)
    parts = [focal_term(clamped_sigmoid(logits[i : i + 1]), heatmap[i : i + 1]) for i in (0, 1)]
    np.testing.assert_allclose(sum(part.total for part in parts), whole.total, rtol=1e-6)
    assert sum(part.count for part in parts) == whole.count


def test_a_part_without_a_positive_counts_as_one_more(rng):
    logits, heatmap = _example(rng)
    heatmap[1] = 0.5
    parts = [focal_term(clamped_sigmoid(logits[i : i + 1]), heatmap[i : i + 1]) for i in (0, 1)]
    assert focal_term(clamped_sigmoid(logits), heatmap).count == 1
    assert [float(part.count) for part in parts] == [1, 1]


@pytest.mark.parametrize("odd", [np.nan, 1.5])
def test_cells_whose_truth_is_no_share_do_not_count(rng, odd):
    logits, heatmap = _example(rng)
    heatmap[0, 0, 0] = odd
    results = []
    for value in (0.5, np.nan):
        probabilities = clamped_sigmoid(logits).numpy()
        probabilities[0, 0, 0] = value
        source = tf.constant(probabilities)
        with tf.GradientTape() as tape:
            tape.watch(source)
            mean = focal_term(source, heatmap).mean()
        results.append((mean.numpy(), tape.gradient(mean, source).numpy()))
    (expected, expected_gradient), (value, gradient) = results
    assert np.isfinite(value) and value == expected
    np.testing.assert_array_equal(gradient, expected_gradient)
    np.testing.assert_array_equal(gradient[0, 0, 0], 0)


def test_a_broken_network_is_seen(rng):
    logits, heatmap = _example(rng)
    logits[1, 2, 2, 2] = np.nan
    assert np.isnan(_value_and_gradient(logits, heatmap)[0])


def test_float32_under_mixed_precision(rng):
    logits, heatmap = _example(rng)
    half = tf.cast(logits, tf.bfloat16)
    term = focal_term(clamped_sigmoid(half), heatmap)
    same = focal_term(clamped_sigmoid(tf.cast(half, tf.float32)), heatmap)
    assert term.total.dtype == tf.float32
    assert term.total == same.total


def test_no_cell_counts_nothing():
    term = focal_term(tf.zeros([0, 4, 4, 3]), tf.zeros([0, 4, 4, 3]))
    assert term.total == 0 and term.count == 0 and term.mean() == 0


def test_compiles_with_unknown_sizes(rng):
    logits, heatmap = _example(rng)
    spec = tf.TensorSpec([None, None, None, 3])

    @tf.function(input_signature=[spec, spec], jit_compile=True, autograph=False)
    def compiled(logits, heatmap):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            mean = focal_term(clamped_sigmoid(logits), heatmap).mean()
        return mean, tape.gradient(mean, logits)

    for one, other in zip(
        compiled(logits, heatmap), _value_and_gradient(logits, heatmap), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="heatmap_true"):
        focal_term(tf.fill([2, 4, 4, 3], 0.5), tf.zeros([2, 4, 4, 1]))
