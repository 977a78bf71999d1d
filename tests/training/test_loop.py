"""The loop: resuming, signals, logs, actions."""

import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import training
from metrabs_like.training import checkpoints
from tests.training import run_toy, toy

REPO = pathlib.Path(__file__).parents[2]
TIMES = ("images_per_second", "data_wait_share")


def rows_of(workdir):
    with open(pathlib.Path(workdir) / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def start(workdir, steps, *settings):
    environment = dict(os.environ, PYTHONPATH=str(REPO), TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, str(REPO / "tests/training/run_toy.py"), str(workdir), str(steps)]
    return subprocess.Popen(
        [*command, *settings], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_row(workdir, process, step):
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        path = pathlib.Path(workdir) / "log.csv"
        if path.exists() and any(int(row["step"]) >= step for row in rows_of(workdir)):
            return
        time.sleep(0.01)
    raise AssertionError(f"no row {step}: {process.communicate()[1][-2000:]}")


def test_killed_run_resumes_to_the_same_rows_and_weights(tmp_path):
    """A real process, a real SIGKILL, at a moment that differs from run to run."""
    settings = dict(steps=60, log_every=3, checkpoint_every=5)
    run_toy.run(tmp_path / "whole", **settings)
    process = start(tmp_path / "cut", 60, "log_every=3", "checkpoint_every=5", "pause=0.05")
    wait_for_row(tmp_path / "cut", process, 9)
    time.sleep(random.uniform(0, 0.7))
    process.kill()
    process.wait()
    last = int(rows_of(tmp_path / "cut")[-1]["step"])
    assert 9 <= last < 60
    summary, _ = run_toy.run(tmp_path / "cut", **settings)
    assert 5 <= summary.resumed_from < last + 5
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    whole, cut = toy.toy_model(batch_norm=True), toy.toy_model(batch_norm=True, seed=2)
    checkpoints.load_weights(whole, tmp_path / "whole" / "model.weights.h5")
    checkpoints.load_weights(cut, tmp_path / "cut" / "model.weights.h5")
    np.testing.assert_array_equal(toy.weights_of(whole), toy.weights_of(cut))


def test_sigterm_saves_and_exits_0(tmp_path):
    process = start(tmp_path, 10**6, "checkpoint_every=0")
    wait_for_row(tmp_path, process, 10)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert b"interrupted=True" in output
    last = int(rows_of(tmp_path)[-1]["step"])
    summary, _ = run_toy.run(tmp_path, steps=last + 10, checkpoint_every=0)
    assert last <= summary.resumed_from < last + 5


def test_interruption_between_rows_keeps_the_open_window(tmp_path):
    run_toy.run(tmp_path / "whole", steps=20)
    interrupt = training.Action(lambda step, logs: signal.raise_signal(signal.SIGINT), every=13)
    summary, _ = run_toy.run(tmp_path / "cut", steps=20, actions=[interrupt])
    assert summary.interrupted and summary.step == 13
    summary, _ = run_toy.run(tmp_path / "cut", steps=20)
    assert summary.resumed_from == 13 and not summary.interrupted
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run_toy.run(None, steps=2)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_workdir_layout_and_finished_run_returns_at_once(tmp_path):
    summary, model = run_toy.run(tmp_path, steps=12)
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoints",
        "log.csv",
        "model.weights.h5",
        "tensorboard",
    }
    assert [row["step"] for row in rows_of(tmp_path)] == ["5", "10", "12"]
    assert summary.step == 12 and not summary.interrupted
    events = [str(p) for p in (tmp_path / "tensorboard").iterdir()]
    tags = {
        value.tag
        for path in events
        for event in tf.compat.v1.train.summary_iterator(path)
        for value in event.summary.value
    }
    assert {"loss", "square", "learning_rate", "images_per_second", "data_wait_share"} <= tags
    again, other = run_toy.run(tmp_path, steps=12, model=toy.toy_model(batch_norm=True, seed=9))
    assert again.resumed_from == again.step == 12
    np.testing.assert_array_equal(toy.weights_of(model), toy.weights_of(other))


def test_lost_or_outdated_weights_are_written_anew(tmp_path):
    run_toy.run(tmp_path, steps=5)
    path = tmp_path / "model.weights.h5"
    outdated = path.read_bytes()
    _, model = run_toy.run(tmp_path, steps=10)
    for damage in (path.unlink, lambda: path.write_bytes(outdated)):
        damage()
        summary, _ = run_toy.run(tmp_path, steps=10)
        assert summary.resumed_from == 10
        found = toy.toy_model(batch_norm=True, seed=2)
        checkpoints.load_weights(found, path)
        np.testing.assert_array_equal(toy.weights_of(found), toy.weights_of(model))


def test_kill_between_the_files_of_a_save_leaves_no_outdated_weights(tmp_path, monkeypatch):
    run_toy.run(tmp_path, steps=5, schedule="constant")

    def killed(self, step):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(checkpoints.RunCheckpoints, "save", killed)
        run_toy.run(tmp_path, steps=10, schedule="constant")
    assert checkpoints.saved_steps(tmp_path / "checkpoints") == [5]
    _, model = run_toy.run(None, steps=10, schedule="constant")
    found = toy.toy_model(batch_norm=True, seed=2)
    checkpoints.load_weights(found, tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(toy.weights_of(found), toy.weights_of(model))


def files_of(workdir):
    return {p: p.read_bytes() for p in pathlib.Path(workdir).rglob("*") if p.is_file()}


def test_refused_start_changes_no_file_and_is_not_announced(tmp_path):
    started = []
    run_toy.run(tmp_path, steps=3, on_start=started.append)
    before = files_of(tmp_path)
    for settings, message in (
        (dict(optimizer="sgd"), "another model or optimizer"),
        (dict(steps=2), "steps=2.*already made 3 updates; name at least 3"),
        (dict(grad_accum_steps=3), "8 examples.*multiple of 3"),
    ):
        with pytest.raises(ValueError, match=message):
            run_toy.run(tmp_path, on_start=started.append, **(dict(steps=6) | settings))
        assert files_of(tmp_path) == before
    run_toy.run(tmp_path, steps=6, on_start=started.append)
    assert started == [0, 3]


def test_actions_see_averaged_weights_and_training_goes_on_with_its_own(tmp_path):
    seen = []
    model = toy.toy_model(batch_norm=True)

    def look(step, logs):
        seen.append((step, toy.weights_of(model), logs["loss"]))

    run_toy.run(None, steps=12, model=model, actions=[look])
    plain, twin = run_toy.run(tmp_path, steps=12)
    assert [step for step, _, _ in seen] == [5, 10, 12]
    np.testing.assert_array_equal(seen[-1][1], toy.weights_of(twin))
    np.testing.assert_array_equal(toy.weights_of(model), toy.weights_of(twin))
    assert seen[-1][2] == plain.logs["loss"]
    assert not np.array_equal(seen[0][1], seen[1][1])


def test_action_with_its_own_period():
    calls = []
    action = training.Action(lambda step, logs: calls.append(step), every=4)
    run_toy.run(None, steps=10, log_every=5, actions=[action])
    assert calls == [4, 8, 10]


def test_log_means_leave_out_skipped_updates(tmp_path):
    parts = [toy.toy_batch(8, seed=i) for i in range(4)]
    parts[1]["main"]["x"][:] = np.nan
    stacked = tf.nest.map_structure(lambda *x: np.stack(x), *parts)
    data = tf.data.Dataset.from_tensor_slices(stacked).repeat()
    summary, _ = run_toy.run(tmp_path, data=data, steps=6, log_every=3)
    assert summary.step == 6 and summary.skipped_nonfinite == 2
    assert all(np.isfinite(float(row["loss"])) for row in rows_of(tmp_path))
    assert [row["skipped_updates"] for row in rows_of(tmp_path)] == ["1", "2"]


def test_endless_skipping_stops_with_advice():
    batch = toy.toy_batch(8)
    batch["main"]["valid"][:] = False
    data = tf.data.Dataset.from_tensors(batch).repeat()
    with pytest.raises(FloatingPointError, match=r"7 updates in a row.*lower learning_rate"):
        run_toy.run(None, data=data, steps=20, log_every=7, max_consecutive_skips=7)


def test_dataset_that_ends_says_so():
    with pytest.raises(ValueError, match="dataset ended.*repeat"):
        run_toy.run(None, data=run_toy.dataset().take(3), steps=5)


def test_waiting_for_data_is_measured(tmp_path):
    def slow(x):
        del x
        time.sleep(0.03)
        return np.float32(0)

    def wait(batch):
        pause = tf.numpy_function(slow, [batch["main"]["x"]], tf.float32)
        with tf.control_dependencies([pause]):
            return tf.nest.map_structure(tf.identity, batch)

    batch = tf.data.Dataset.from_tensors(toy.toy_batch(8)).repeat()
    summary, _ = run_toy.run(None, data=batch.map(wait), steps=20)
    fast, _ = run_toy.run(None, data=batch.cache().prefetch(4), steps=20)
    assert summary.logs["data_wait_share"] > 0.6 > fast.logs["data_wait_share"]
    # one of the 20 waits may lie before the clock starts
    assert summary.logs["images_per_second"] < 20 / 19 * 8 / 0.03
