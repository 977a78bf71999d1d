"""Division of nested batches."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training import batches


def nest(n, m):
    return {
        "kp3d": {"x": tf.reshape(tf.range(2 * n), [n, 2]), "name": tf.fill([n], "a")},
        "kp2d": {"x": tf.zeros([m, 3])},
    }


def test_examples_add_up_over_kinds():
    assert batches.n_examples(nest(6, 2)) == 8
    assert batches.n_examples({"x": tf.zeros([5, 2]), "y": tf.zeros([5])}) == 5
    assert batches.n_examples((tf.zeros([3]), tf.zeros([3]))) == 3


def test_copy_to_a_device_keeps_values_and_strings():
    batch = nest(3, 1)
    copied = batches.on_device(batch, "/CPU:0")
    tf.nest.map_structure(np.testing.assert_array_equal, copied, batch)
    assert copied["kp3d"]["name"] is batch["kp3d"]["name"]


@pytest.mark.gpu
@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="needs a GPU")
def test_copy_to_a_gpu():
    copied = batches.on_device(nest(3, 1), "/GPU:0")
    assert "GPU" in copied["kp2d"]["x"].device and "CPU" in copied["kp3d"]["name"].device


def test_parts_are_contiguous_blocks_in_eager_and_graph_mode():
    batch = nest(6, 2)
    parts = batches.split(batch, 2)
    assert parts["kp3d"]["x"].shape == (2, 3, 2) and parts["kp2d"]["x"].shape == (2, 1, 3)
    traced = tf.function(
        lambda x: batches.split(x, 2), input_signature=[tf.TensorSpec([None, 2], tf.int32)]
    )(batch["kp3d"]["x"])
    for i in range(2):
        block = batches.part(batch, i, 2)
        np.testing.assert_array_equal(parts["kp3d"]["x"][i], batch["kp3d"]["x"][3 * i : 3 * i + 3])
        np.testing.assert_array_equal(block["kp3d"]["x"], parts["kp3d"]["x"][i])
        np.testing.assert_array_equal(traced[i], parts["kp3d"]["x"][i])


def test_zero_examples_split_into_zero_examples():
    assert batches.split({"x": tf.zeros([0, 3])}, 4)["x"].shape == (4, 0, 3)


def test_uneven_and_scalar_entries_are_named():
    with pytest.raises(ValueError, match=r"'kp2d/x'.*holds 3 examples.*multiple of 2"):
        batches.split(nest(4, 3), 2)
    with pytest.raises(ValueError, match="'1'.*scalar"):
        batches.check_divisible((tf.zeros([2]), tf.constant(1.0)), 2, "test")
