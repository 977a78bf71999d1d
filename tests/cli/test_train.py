"""The train command: its folder, resuming, starting from other weights, bad input."""

import csv
import importlib.util
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from metrabs_like.cli import app, run_folder, train

from .conftest import TINY_RUN, run_train


def _log_steps(workdir):
    with open(os.path.join(workdir, "log.csv")) as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_folder_repeats_and_describes_the_run(finished_run, dataset):
    assert _log_steps(finished_run) == [1, 2]
    run = run_folder.load(finished_run)
    assert run.system == "metrabs" and run.train.steps == 2 and run.model.proc_side == 64
    assert run.sources == (f"kp3d:{dataset}:4",)
    for name in ("run.flags", "model.weights.h5", "checkpoints", "tensorboard", "curves.png"):
        assert os.path.exists(os.path.join(finished_run, name))


def test_run_flags_continue_the_run_until_it_is_finished(own_run, held_out, capsys):
    # as after a kill between the measurement at step 3 and the checkpoint that follows it
    validation = own_run / "validation.jsonl"
    validation.write_text("".join(f'{{"step": {i}, "mpjpe_mm": -1}}\n' for i in (1, 2, 3)))
    argv = ["train", f"--flagfile={own_run}/run.flags", f"--workdir={own_run}", "--train_steps=3"]
    argv.append(f"--validation={held_out}")
    assert train.main(argv) == 0
    assert _log_steps(own_run) == [1, 2, 3]
    rows = [json.loads(line) for line in validation.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3] and rows[-1]["mpjpe_mm"] > 0
    printed = capsys.readouterr().out
    assert "train.steps: 2 -> 3" in printed and "(1 updates" in printed
    weights = own_run / "model.weights.h5"
    weights.unlink()
    assert train.main(argv) == 0
    assert "(0 updates" in capsys.readouterr().out
    assert weights.exists()


def test_folder_of_another_model_is_refused_and_kept(own_run, dataset, capsys):
    before = pathlib.Path(own_run, "config.json").read_bytes()
    assert run_train(own_run, dataset, "--train_steps=3", "--metrabs_depth=4") == 1
    message = capsys.readouterr().err
    assert "model.depth: 8 -> 4" in message and "new --workdir" in message
    assert pathlib.Path(own_run, "config.json").read_bytes() == before


def test_refused_start_changes_nothing(own_run, dataset, capsys):
    files = [own_run / name for name in ("config.json", "run.flags", "log.csv")]
    before = [path.read_bytes() for path in files]
    for flag, message in (
        ("--train_optimizer=sgd", "optimizer"),
        ("--train_weight_decay=0.1", "optimizer"),  # with it `adamw` is another class
        ("--train_grad_accum_steps=3", "grad_accum_steps"),
    ):
        assert run_train(own_run, dataset, "--train_steps=3", flag) == 1
        assert message in capsys.readouterr().err
        assert [path.read_bytes() for path in files] == before
    argv = ["train", f"--flagfile={own_run}/run.flags", f"--workdir={own_run}", "--train_steps=3"]
    assert train.main(argv) == 0
    assert _log_steps(own_run) == [1, 2, 3]


def test_batch_that_does_not_divide_leaves_no_run(dataset, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert run_train(workdir, dataset, "--train_steps=1", "--train_grad_accum_steps=3") == 1
    message = capsys.readouterr().err
    assert "4 examples" in message and "multiple of 3" in message
    assert not (workdir / "run.flags").exists() and not (workdir / "config.json").exists()


def test_starting_from_other_weights_with_another_skeleton(finished_run, dataset, tmp_path, capsys):
    code = run_train(
        tmp_path / "run",
        dataset,
        "--train_steps=1",
        f"--init_from={finished_run}",
        "--metrabs_skeleton=smpl_24+h36m_17",
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert f"--init_from={finished_run}: backbone copied; 24 of 41 points keep" in printed


def test_validation_rows(dataset, held_out, tmp_path):
    more = ("--train_steps=2", f"--validation={held_out}", "--validation_every=1")
    assert run_train(tmp_path / "run", dataset, *more) == 0
    lines = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["mpjpe_mm"] > 0 for row in rows)


def test_original_flag_names_reach_the_configs():
    argv = ["train", "--grad_accum_steps=2", "--proc_side=128", "--box_size_m=2.5"]
    argv += ["--absloss_factor=0.2", "--absloss_start_step=7", "--distribution=mirrored"]
    run = train.build_run(app.parse(train.define_flags, argv))
    assert (run.train.grad_accum_steps, run.train.distribution) == (2, "mirrored")
    assert (run.model.proc_side, run.pipeline.proc_side) == (128, 128)
    assert (run.model.box_size_m, run.model.absloss_factor) == (2.5, 0.2)
    assert run.model.absloss_start_step == 7


@pytest.mark.parametrize(
    ("source", "flag", "named"),
    [
        ("kp3d:x:4", "--data_shapes_probability=0.25", "--data_shapes_probability=0.25 asks"),
        ("kp3d:x:4:blur=0.5", "--data_shuffle_buffer=9", ":blur=0.5 of the source kp3d:x:4:blur"),
        ("kp3d:x:4:blur=0", "--data_blur_probability=1", None),
        ("kp3d:x:4:colour=0.5", "--data_partial_probability=1", None),
    ],
)
def test_changes_that_photometric_turns_off_are_refused(source, flag, named):
    def build(*more):
        sources = f"--sources=kp3d:y:4:shapes=0:blur=0,{source}"
        return train.build_run(app.parse(train.define_flags, ["train", sources, flag, *more]))

    assert build("--metrabs_photometric").model.photometric
    if named is None:
        assert not build("--nometrabs_photometric").model.photometric
    else:
        with pytest.raises(ValueError, match="--nometrabs_photometric turns all .* off") as caught:
            build("--nometrabs_photometric")
        assert named in str(caught.value)


def test_truncated_shard_is_named(held_out, tmp_path, capsys):
    folder = shutil.copytree(held_out, tmp_path / "data")
    shard = next(folder.glob("*.tfrecord"))
    os.truncate(shard, shard.stat().st_size // 2)
    assert run_train(tmp_path / "run", folder, "--train_steps=1") == 1
    message = capsys.readouterr().err
    assert shard.name in message and "truncated" in message and "prepare_data" in message


def _with_damaged_shard(dataset, tmp_path):
    """Copies a data set and changes a bit in its last shard; returns (folder, shard)."""
    folder = shutil.copytree(dataset, tmp_path / "data")
    shard = sorted(folder.glob("*.tfrecord"))[-1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return folder, shard


def test_damaged_shard_of_the_right_size_is_named(held_out, tmp_path, capsys):
    folder, shard = _with_damaged_shard(held_out, tmp_path)
    assert run_train(tmp_path / "run", folder, "--train_steps=9") == 1
    message = capsys.readouterr().err
    assert shard.name in message and "SHA-256" in message and "prepare_data" in message


def test_damaged_shard_is_skipped_and_counted(dataset, tmp_path, capsys):
    folder, shard = _with_damaged_shard(dataset, tmp_path)
    more = ("--train_steps=6", "--data_skip_corrupt")  # 24 examples: more than a round
    assert run_train(tmp_path / "run", folder, *more) == 0
    printed = capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if "skipped" in line)
    assert line.startswith("warning: source ") and shard.name in line and "1 of 2" in line
    assert printed.out.endswith("1 damaged shard(s) of the sources were left out\n")
    shard.unlink()
    (folder / sorted(folder.glob("*.tfrecord"))[0]).write_bytes(b"")
    assert run_train(tmp_path / "other", folder, *more) == 1
    assert "no person with a valid kp3d annotation" in capsys.readouterr().err


def test_run_with_a_data_service_goes_on_with_other_data(dataset, tmp_path, capsys):
    dispatcher = tf.data.experimental.service.DispatchServer()
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher.target.split("://")[1])
    )
    run, flag = tmp_path / "run", f"--data_service={dispatcher.target}"
    try:
        for steps in (2, 3):
            assert run_train(run, dataset, f"--train_steps={steps}", flag) == 0
        assert "shuffled anew at step 2" in capsys.readouterr().out
        folder, shard = _with_damaged_shard(dataset, tmp_path)
        # A worker meets the damage, and the trainer names it.
        assert run_train(tmp_path / "other", folder, "--train_steps=9", flag) == 1
        message = capsys.readouterr().err
        assert shard.name in message and "SHA-256" in message
    finally:
        worker._stop()
        dispatcher._stop()
    assert _log_steps(run) == [1, 2, 3]
    # Its checkpoints have no place in the data to go on from.
    assert run_train(run, dataset, "--train_steps=4") == 1
    assert "does not fit this run" in capsys.readouterr().err
    assert run_train(run, dataset, "--train_steps=4", flag) == 1
    assert f"{dispatcher.target}: nobody listens" in capsys.readouterr().err


def test_addons_optimizer_works_in_its_lane_and_is_explained_outside(dataset, tmp_path, capsys):
    code = run_train(
        tmp_path / "run", dataset, "--train_steps=1", "--train_optimizer=tfa.RectifiedAdam"
    )
    if importlib.util.find_spec("tensorflow_addons"):
        assert code == 0
    else:
        message = capsys.readouterr().err
        assert code == 1 and "tfa.RectifiedAdam" in message and "addons" in message


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--workdir="], 1, "--workdir is missing"),
        (["--sources="], 1, "--sources is missing"),
        (["--sources=kp3d:DATA"], 1, "KIND:FOLDER:COUNT"),
        (["--sources=kp3d:DATA/none:4"], 1, "DATA/none"),
        (["--sources=kp2d:DATA:0"], 1, "count = 0"),
        (["--workdir=OUT/file/run"], 1, "cannot be written"),
        (["--train_learning_rte=1"], 2, "train_learning_rate"),
        (["--train_steps=0"], 1, "steps=0"),
        (["--metrabs_backbone=resnet5"], 1, "backbone='resnet5'"),
        (["--metrabs_skeleton=smpl_42"], 1, "smpl_42"),
        (["--train_optimizer=adamm"], 1, "adamm"),
        (["--init_from=OUT/none"], 1, "--init_from=OUT/none: there is no preset"),
        (["--validation=OUT/none"], 1, "OUT/none"),
    ],
)
def test_bad_input_is_named(arguments, code, message, dataset, tmp_path, capsys):
    (tmp_path / "file").write_text("")

    def filled(text):
        return text.replace("DATA", dataset).replace("OUT", str(tmp_path))

    more = [filled(argument) for argument in arguments]
    assert run_train(tmp_path / "run", dataset, "--train_steps=1", *more) == code
    assert filled(message) in capsys.readouterr().err


def _start(workdir, dataset, *more):
    """Starts a real process."""
    command = [sys.executable, "-m", "metrabs_like.cli.train", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, f"--sources=kp3d:{dataset}:4", *TINY_RUN, *more],
        cwd=pathlib.Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _wait_for_rows(process, workdir, n_rows):
    log = workdir / "log.csv"
    deadline = time.monotonic() + 600  # a busy machine may need minutes to start TensorFlow
    while not (log.exists() and log.read_text().count("\n") > n_rows):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def _rows(workdir):
    """All that was logged, as it was printed, but times."""
    with open(workdir / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    times = ("images_per_second", "data_wait_share")
    return [{key: row[key] for key in row if key not in times} for row in rows]


def test_sigterm_saves_and_exits_with_zero(dataset, tmp_path):
    """As a scheduler would stop it."""
    workdir = tmp_path / "run"
    process = _start(workdir, dataset, "--train_steps=100000")
    try:
        _wait_for_rows(process, workdir, 2)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0 and "stopped and saved at step" in printed
    step = int(printed.split("saved at step ")[1].split()[0])
    assert (workdir / "checkpoints" / f"step-{step}.index").exists()
    assert (workdir / "model.weights.h5").exists()


def test_killed_run_goes_on_to_the_losses_of_an_uninterrupted_one(dataset, tmp_path, capsys):
    """SIGKILL at a moment that differs from run to run; the digits are the same, not just close."""
    settings = ("--train_steps=16", "--train_checkpoint_every=3")
    assert run_train(tmp_path / "whole", dataset, *settings) == 0
    cut = tmp_path / "cut"
    process = _start(cut, dataset, *settings)
    try:
        _wait_for_rows(process, cut, 4)
        time.sleep(random.SystemRandom().uniform(0, 0.1))
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL and 4 <= len(_rows(cut)) < 16
    capsys.readouterr()
    assert run_train(cut, dataset, *settings) == 0
    n_updates = int(re.search(r"finished at step 16 \((\d+) updates", capsys.readouterr().out)[1])
    assert 0 < n_updates <= 16 - 3
    whole = _rows(tmp_path / "whole")
    assert len(whole) == 16 and float(whole[-1]["loss"]) != float(whole[0]["loss"])
    assert _rows(cut) == whole
