import dataclasses
import os

import numpy as np
import tensorflow as tf

from metrabs_like.data import streams


@dataclasses.dataclass
class Config:
    n_parallel_calls: int = 3
    prefetch_batches: int = 2


def numbers(n):
    return tf.data.Dataset.range(n)


def test_plans_get_running_numbers_and_seeds_of_their_own():
    def plan(number, element):
        return {"number": number, "element": element}

    batches = streams.planned_batches(numbers(7).repeat(), plan, 4, Config(), seed=5, index=2)
    first, second = batches.take(2)
    np.testing.assert_array_equal(first["number"], [0, 1, 2, 3])
    np.testing.assert_array_equal(second["number"], [4, 5, 6, 7])
    np.testing.assert_array_equal(second["element"], [4, 5, 6, 0])
    other = next(
        iter(streams.planned_batches(numbers(7).repeat(), plan, 4, Config(), seed=5, index=3))
    )
    assert first["example_seed"].dtype == tf.int32
    seeds = np.concatenate([b["example_seed"] for b in (first, second, other)])
    assert len(np.unique(seeds, axis=0)) == 12


def test_a_tensor_seed_plans_what_the_integer_does():
    def plan(number, element):
        return {"key": streams.source_key(seed, 3) + 0 * number}

    keys = []
    for seed in (11, tf.constant(11, tf.int64)):
        batches = streams.planned_batches(numbers(2), plan, 2, Config(), seed=seed, index=3)
        keys.append(next(iter(batches)))
    tf.nest.map_structure(np.testing.assert_array_equal, *keys)
    assert np.all(keys[0]["key"] == (3 << 32 | 11))


def test_examples_are_decoded_in_order_and_filled_up():
    planned = numbers(5).batch(2).map(lambda n: {"n": n})
    examples = streams.decoded_examples(
        planned, lambda e: {"n": e["n"], "ones": tf.ones([e["n"]])}, Config()
    )
    batches = list(streams.padded_batches(examples, 2, {"ones": [6]}, drop_remainder=False))
    assert [b["ones"].shape for b in batches] == [(2, 6), (2, 6), (1, 6)]
    np.testing.assert_array_equal(np.concatenate([b["n"] for b in batches]), range(5))
    ones = np.concatenate([b["ones"] for b in batches])
    np.testing.assert_array_equal(ones, np.arange(6) < np.arange(5)[:, None])
    kept = list(streams.padded_batches(examples, 2, {"ones": [None]}, drop_remainder=True))
    assert [b["ones"].shape for b in kept] == [(2, 1), (2, 3)]


def test_batches_are_made_ahead_in_order():
    dataset = streams.prefetched(numbers(9), Config())
    assert list(dataset.as_numpy_iterator()) == list(range(9))
    assert dataset.options().deterministic and not dataset.options().autotune.enabled


def test_threads():
    assert streams.n_threads(Config()) == 3
    assert streams.n_threads(Config(n_parallel_calls=0)) == os.cpu_count()
