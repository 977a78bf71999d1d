"""Counters of updates."""

import pytest
import tensorflow as tf

from metrabs_like.training.counters import adjusted_train_counter


@pytest.mark.parametrize(("counter", "k", "expected"), [(0, 4, 0), (7, 4, 1), (8, 4, 2), (5, 1, 5)])
def test_updates_are_whole_groups_of_micro_batches(counter, k, expected):
    assert adjusted_train_counter(counter, k) == expected
    assert adjusted_train_counter(tf.constant(counter), k).numpy() == expected


def test_no_steps_per_update_is_refused():
    with pytest.raises(ValueError, match="grad_accum_steps=0"):
        adjusted_train_counter(3, 0)
