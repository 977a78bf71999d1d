"""Checkpoints and weight files that do not fit, are damaged, or come from the other Keras."""

import h5py
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training import checkpoints
from tests.training import run_toy, toy


def other_model():
    inputs = tf.keras.Input((4,), name="x")
    x = tf.keras.layers.Dense(9, activation="tanh", name="backbone")(inputs)
    x = tf.keras.layers.BatchNormalization()(x)
    return tf.keras.Model({"x": inputs}, {"y": tf.keras.layers.Dense(3, name="head")(x)})


def test_checkpoint_of_another_model_names_what_differs(tmp_path):
    run_toy.run(tmp_path, steps=2)
    with pytest.raises(ValueError, match=r"another model.*\[4, 8\].*there.*\[4, 9\].*here"):
        run_toy.run(tmp_path, steps=4, model=other_model())


def test_checkpoint_of_another_optimizer_names_it(tmp_path):
    run_toy.run(tmp_path, steps=2)
    with pytest.raises(ValueError, match="SGD.*here.*another workdir"):
        run_toy.run(tmp_path, steps=4, optimizer="sgd")


def test_checkpoint_of_another_dataset_says_so(tmp_path):
    run_toy.run(tmp_path, steps=2)
    with pytest.raises(ValueError, match="does not fit this run.*settings and data"):
        run_toy.run(tmp_path, steps=4, data=tf.data.Dataset.from_tensors(toy.toy_batch(8)).repeat())


def counting(folder):
    """A cheap run: the store of a checkpoint with a counter, a tensor and a data iterator."""
    state = tf.Module()
    state.n, state.x = tf.Variable(0), tf.Variable(tf.zeros([1000]))
    iterator = iter(tf.data.Dataset.range(10**6).shuffle(50, seed=1).prefetch(1))
    store = checkpoints.RunCheckpoints(
        folder, dict(state=state, iterator=iterator), model=toy.toy_model(), optimizers=[], kept=3
    )
    return store, state, iterator


def saved_to(folder, steps):
    store, state, iterator = counting(folder)
    followers = {}
    for step in steps:
        state.n.assign(step)
        state.x.assign(tf.fill([1000], float(step)))
        store.save(step)
        followers[step] = next(iterator).numpy()
    return followers


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "index", "index gone"])
def test_damaged_last_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    followers = saved_to(tmp_path, [10, 20])
    suffix = "index" if damage.startswith("index") else "data-00000-of-00001"
    path = tmp_path / f"step-20.{suffix}"
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"flipped": flipped, "empty": b""}.get(damage, content[:middle]))
    store, state, iterator = counting(tmp_path)
    if damage == "index gone":
        path.unlink()
        assert store.restore() == 10
    else:
        with pytest.warns(UserWarning, match="step-20 is damaged"):
            assert store.restore() == 10
    assert (int(state.n), float(state.x[999])) == (10, 10.0)
    assert next(iterator).numpy() == followers[10]


def test_no_readable_checkpoint_is_an_error_not_a_fresh_start(tmp_path):
    saved_to(tmp_path, [5])
    (tmp_path / "step-5.data-00000-of-00001").write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no checkpoint.*is readable"):
        counting(tmp_path)[0].restore()


def test_lost_state_file_does_not_lose_the_run(tmp_path):
    saved_to(tmp_path, [5, 6])
    (tmp_path / "checkpoint").unlink()
    assert counting(tmp_path)[0].restore() == 6


def test_choice_of_steps(tmp_path):
    saved_to(tmp_path, [5, 6, 7])
    store, state, _ = counting(tmp_path)
    assert store.steps() == [5, 6, 7]
    assert store.restore([5, 6]) == 6 and int(state.n) == 6
    assert counting(tmp_path / "none")[0].restore() is None


def test_only_the_newest_checkpoints_stay(tmp_path):
    saved_to(tmp_path, [1, 2, 3, 4, 5])
    assert counting(tmp_path)[0].steps() == [3, 4, 5]


def test_unwritable_workdir_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot create the folder.*file.*choose another"):
        run_toy.run(tmp_path / "file" / "run", steps=1)


def nested_model():
    """A backbone model inside a model, with layers inside a layer."""
    inner_in = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, name="conv")(inner_in)
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    backbone = tf.keras.Model(inner_in, x, name="backbone")
    inputs = tf.keras.Input((8, 8, 3), name="image")
    x = tf.keras.layers.TimeDistributed(tf.keras.layers.Dense(5))(backbone(inputs))
    model = tf.keras.Model({"image": inputs}, {"out": tf.keras.layers.Dense(2, name="head")(x)})
    for i, variable in enumerate(model.weights):
        variable.assign(np.random.default_rng(i).normal(size=variable.shape))
    return model


def test_weights_round_trip_of_nested_models(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = nested_model()
    checkpoints.save_weights(model, path)
    wanted = toy.weights_of(model)
    for variable in model.weights:
        variable.assign(tf.zeros_like(variable))
    checkpoints.load_weights(model, path)
    np.testing.assert_array_equal(toy.weights_of(model), wanted)
    assert [p.name for p in tmp_path.iterdir()] == ["model.weights.h5"]


def test_weight_file_layout_is_the_one_that_both_keras_generations_read(tmp_path):
    """Each lane asserts the same paths, and each read the other's files of four backbones."""
    path = tmp_path / "model.weights.h5"
    checkpoints.save_weights(nested_model(), path)
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, x: found.update({name: x.shape}) if isinstance(x, h5py.Dataset) else None
        )
    assert found == {
        "layers/dense/vars/0": (5, 2),
        "layers/dense/vars/1": (2,),
        "layers/functional/layers/batch_normalization/vars/0": (4,),
        "layers/functional/layers/batch_normalization/vars/1": (4,),
        "layers/functional/layers/batch_normalization/vars/2": (4,),
        "layers/functional/layers/batch_normalization/vars/3": (4,),
        "layers/functional/layers/conv2d/vars/0": (3, 3, 3, 4),
        "layers/functional/layers/conv2d/vars/1": (4,),
        "layers/time_distributed/layer/vars/0": (4, 5),
        "layers/time_distributed/layer/vars/1": (5,),
    }


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "model.weights.h5"
    checkpoints.save_weights(other_model(), path)
    with pytest.raises(ValueError, match="does not fit the model.*configuration"):
        checkpoints.load_weights(toy.toy_model(batch_norm=True), path)
    path.write_bytes(b"not a weight file")
    with pytest.raises(ValueError, match="does not fit the model"):
        checkpoints.load_weights(other_model(), path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        checkpoints.load_weights(other_model(), tmp_path / "none.weights.h5")


@pytest.mark.parametrize(
    "lost", ["layers/functional", "layers/functional/layers/conv2d", "layers/dense"]
)
def test_weights_that_lack_a_layer_are_refused(lost, tmp_path):
    path = tmp_path / "model.weights.h5"
    checkpoints.save_weights(nested_model(), path)
    with h5py.File(path, "a") as file:
        del file[lost]
    with pytest.raises(ValueError, match="does not fit the model"):
        checkpoints.load_weights(nested_model(), path)
