"""Soft-NMS against its definition, row by row; rows stay whole."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.centernet.soft_nms import METHODS, soft_nms, soft_nms_order


def _rows(rng, n_images, n_rows, n_columns=56):
    """Overlapping boxes with different scores; every other column tells whose it is."""
    corner = rng.uniform(0, 60, (n_images, n_rows, 2))
    size = rng.uniform(20, 60, (n_images, n_rows, 2))
    scores = rng.permutation(n_images * n_rows).reshape(n_images, n_rows, 1) + 1.0
    owner = np.arange(n_images * n_rows, dtype=float).reshape(n_images, n_rows, 1)
    rest = np.repeat(owner, n_columns - 5, axis=2)
    rows = [corner, corner + size, scores / scores.size, rest]
    return np.concatenate(rows, axis=2).astype(np.float32)


def _defined(rows, method, sigma=0.5, threshold=0.5, score_threshold=0.001):
    """The paper's algorithm with lists: what is kept, in the order of choice."""
    rows, kept = [row.astype(np.float64) for row in rows], []
    while rows:
        best = rows.pop(int(np.argmax([row[4] for row in rows])))
        kept.append(best)
        for row in rows:
            sides = np.minimum(best[2:4], row[2:4]) - np.maximum(best[:2], row[:2]) + 1
            if (sides > 0).all():
                areas = [np.prod(one[2:4] - one[:2] + 1) for one in (best, row)]
                overlap = np.prod(sides) / (sum(areas) - np.prod(sides))
                row[4] *= {
                    "gaussian": np.exp(-(overlap**2) / sigma),
                    "linear": 1 - overlap if overlap > threshold else 1,
                    "hard": 0 if overlap > threshold else 1,
                }[method]
                if row[4] < score_threshold:
                    row[4] = np.nan
        rows = [row for row in rows if not np.isnan(row[4])]
    return np.array(kept)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("score_threshold", [0.001, 0.1])
def test_rows_are_those_of_the_definition(rng, method, score_threshold):
    rows = _rows(rng, 2, 25)
    options = {"method": method, "score_threshold": score_threshold}
    result, counts = soft_nms(rows, **options)
    assert result.shape == rows.shape
    for image in range(2):
        expected = _defined(rows[image], **options)
        assert counts[image] == len(expected)
        np.testing.assert_allclose(result[image, : len(expected)], expected, rtol=1e-5, atol=1e-6)
        assert not np.any(result[image, len(expected) :])
    if score_threshold == 0.1:
        assert counts.numpy().min() < 25


def test_people_far_apart_keep_their_scores(rng):
    rows = _rows(rng, 1, 6, 39)
    rows[..., :4] = np.arange(6)[:, np.newaxis] * 100 + np.array([0, 0, 50, 50])
    rows[0, 3, 4] = 0.0005  # below the threshold, but nobody overlaps it
    result, counts = soft_nms(rows)
    order = np.argsort(-rows[0, :, 4])
    np.testing.assert_array_equal(result[0], rows[0, order])
    assert counts.numpy() == [6]


def test_a_row_stays_one(rng):
    """The release mixes the columns of dropped rows, and leaves those beyond 39 behind."""
    rows = _rows(rng, 1, 30)
    result, counts = soft_nms(rows, method="hard")
    assert 0 < counts[0] < 30
    for row in result[0].numpy()[: counts[0]]:
        source = rows[0, int(row[5])]
        np.testing.assert_array_equal(np.delete(row, 4), np.delete(source, 4))


def test_invalid_rows_do_not_exist(rng):
    rows = _rows(rng, 2, 12)
    valid = rng.random((2, 12)) < 0.6
    expected = [soft_nms(rows[i : i + 1, valid[i]]) for i in (0, 1)]
    rows[~valid] = rng.choice([np.nan, 5.0], rows[~valid].shape)
    result, counts = soft_nms(rows, valid)
    for image, (kept, count) in enumerate(expected):
        assert counts[image] == count[0]
        n = int(count[0])
        np.testing.assert_allclose(result[image, :n], kept[0, :n], rtol=1e-6)


@pytest.mark.parametrize("column", [0, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_dropped(rng, column, value):
    rows = _rows(rng, 1, 8)
    expected = soft_nms(np.delete(rows, 3, axis=1))
    rows[0, 3, column] = value
    result, counts = soft_nms(rows)
    assert counts[0] == expected[1][0] and np.isfinite(result).all()
    np.testing.assert_allclose(result[0, :7], expected[0][0], rtol=1e-6)


def test_groups_do_not_reduce_each_other():
    boxes = tf.constant([[[0.0, 0, 9, 9]] * 4])
    scores, groups = tf.constant([[0.4, 0.9, 0.8, 0.3]]), tf.constant([[0, 1, 0, 1]])
    order, new, counts = soft_nms_order(boxes, scores, groups=groups, method="hard")
    np.testing.assert_array_equal(order[0, :2], [1, 2])
    np.testing.assert_allclose(new, [[0.9, 0.8, 0, 0]])
    assert counts.numpy() == [2]
    assert soft_nms_order(boxes, scores, method="hard")[2].numpy() == [1]


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (2, 5)])
def test_nobody(shape):
    rows = tf.zeros([*shape, 39])
    result, counts = soft_nms(rows, tf.zeros(shape, tf.bool))
    assert result.shape == rows.shape and not np.any(result)
    np.testing.assert_array_equal(counts, np.zeros(shape[0]))


@pytest.mark.parametrize("jit_compile", [None, True])
def test_sizes_may_be_unknown(rng, jit_compile):
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 39])], jit_compile=jit_compile, autograph=False
    )
    def compiled(rows):
        return soft_nms(rows, score_threshold=0.1)

    rows = _rows(rng, 2, 10, 39)
    for one, other in zip(compiled(rows), soft_nms(rows, score_threshold=0.1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_unknown_method():
    with pytest.raises(ValueError, match="method='soft': choose one of gaussian, linear, hard"):
        soft_nms(tf.zeros([1, 2, 39]), method="soft")
    with pytest.raises(ValueError, match="scores"):
        soft_nms_order(tf.zeros([1, 2, 4]), tf.zeros([1, 3]))
