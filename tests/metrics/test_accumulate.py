"""Adding metric sums up over batches."""

import json

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.metrics import MetricSums


def test_batches_weigh_by_their_counts():
    sums = MetricSums()
    sums.add({"error": (10.0, 1), "per_joint": (np.array([1.0, 2]), np.array([1, 0]))})
    sums.add({"error": (tf.constant(2.0), tf.constant(3.0))})
    sums.add({"per_joint": (np.array([3.0, 0]), np.array([1, 0]))})
    result = sums.result()
    assert result["error"] == 3.0
    np.testing.assert_array_equal(result["per_joint"], [2.0, np.nan])
    assert sums.counts()["error"] == 4.0
    np.testing.assert_array_equal(sums.counts()["per_joint"], [2, 0])
    assert json.dumps(result["error"]) == "3.0"


def test_empty():
    assert MetricSums().result() == {}
    sums = MetricSums()
    sums.add({"error": (0.0, 0.0)})
    assert np.isnan(sums.result()["error"])


def test_long_sums_keep_their_digits():
    sums = MetricSums()
    for _ in range(20000):
        sums.add({"error": (np.float32(1000.1), np.float32(1))})
    assert sums.result()["error"] == pytest.approx(np.float64(np.float32(1000.1)), rel=1e-12)


def test_merge_equals_one_stream():
    parts = [MetricSums(), MetricSums()]
    whole = MetricSums()
    for i in range(5):
        batch = {"a": (float(i), i + 1), f"b{i % 2}": (1.0, 2)}
        parts[i % 2].add(batch)
        whole.add(batch)
    parts[0].merge(parts[1])
    assert parts[0].result() == whole.result()
    assert parts[0].counts() == whole.counts()


def test_changed_shapes_are_named():
    sums = MetricSums()
    sums.add({"per_joint": (np.zeros(3), np.ones(3))})
    with pytest.raises(ValueError, match="'per_joint'.*one shape per metric"):
        sums.add({"per_joint": (np.zeros(4), np.ones(4))})
