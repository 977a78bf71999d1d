"""What a run's folder accepts to be continued with."""

import dataclasses
import json

import pytest

from metrabs_like.cli import run_folder
from metrabs_like.data.pipeline import PipelineConfig
from metrabs_like.systems import metrabs
from metrabs_like.training.config import TrainConfig

RUN = run_folder.Run(
    system="metrabs",
    model=metrabs.tiny_config(),
    train=TrainConfig(),
    pipeline=PipelineConfig(proc_side=64),
    sources=("kp3d:data:4",),
)


@pytest.fixture
def workdir(tmp_path):
    """A run's folder as far as it is looked at: settings, and a checkpoint by name."""
    run_folder.save(RUN, str(tmp_path), "--train_steps=9\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-5.index").write_text("")
    return str(tmp_path)


def _changed(**settings):
    return dataclasses.replace(RUN, train=dataclasses.replace(RUN.train, **settings))


def test_same_settings_continue_without_a_word(workdir):
    assert run_folder.check_continues(RUN, workdir) == []
    assert run_folder.load(workdir) == RUN
    assert run_folder.checkpoint_steps(workdir) == [5]


def test_folder_without_a_run_takes_any(tmp_path):
    assert run_folder.check_continues(RUN, str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(precision="float16"), "train.precision: float32 -> float16"),
        (dict(seed=1), "train.seed: 0 -> 1"),
        (dict(optimizer="sgd"), "train.optimizer: adamw -> sgd"),
        (dict(grad_accum_steps=2), "train.grad_accum_steps: 1 -> 2"),
        (dict(ema_momentum=0.0), "train.has_ema: True -> False"),
    ],
)
def test_what_the_checkpoints_depend_on_is_kept(settings, message, workdir):
    with pytest.raises(ValueError, match="run.flags.*new --workdir") as caught:
        run_folder.check_continues(_changed(steps=7, **settings), workdir)
    assert f"holds another run ({message})" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        dict(steps=20_000),
        dict(learning_rate=1e-3),
        dict(log_every=1),
        dict(checkpoint_every=0),
        dict(checkpoints_kept=9),
        dict(ema_momentum=0.5),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_may_change_is_shown(settings, workdir):
    ((key, value),) = settings.items()
    shown = run_folder.check_continues(_changed(**settings), workdir)
    assert shown == [f"train.{key}: {getattr(RUN.train, key)} -> {value}"]


def test_before_the_first_checkpoint_training_may_change_but_not_the_model(tmp_path):
    run_folder.save(RUN, str(tmp_path), "")
    shown = run_folder.check_continues(_changed(grad_accum_steps=2, seed=3), str(tmp_path))
    assert shown == ["train.grad_accum_steps: 1 -> 2", "train.seed: 0 -> 3"]
    other = dataclasses.replace(RUN, model=dataclasses.replace(RUN.model, depth=4))
    with pytest.raises(ValueError, match="model.depth: 8 -> 4"):
        run_folder.check_continues(other, str(tmp_path))


def test_files_are_replaced_whole(workdir, tmp_path):
    run_folder.save(_changed(steps=11), workdir, "--train_steps=11\n")
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 11
    assert (tmp_path / "run.flags").read_text() == "--train_steps=11\n"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "config.json", "run.flags"}
