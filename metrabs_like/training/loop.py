"""The training loop: when to step, log, save, run actions and stop.

It resumes by itself when started again with the same workdir. SIGTERM and SIGINT (Ctrl-C) save and
make `train` return; a second one acts as usual. Nothing waits for the device between log rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from metrabs_like.training import batches, checkpoints, distribution, ema, logs, optimizers
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.step import Objective, TrainStep, make_train_step


@dataclasses.dataclass(frozen=True)
class Action:
    """Something to do now and then: evaluate, export, plot.

    Attributes:
      run: `(step, logs) -> None`; while it runs, the model holds the averaged weights.
      every: updates between calls; 0 means with each log row. It always runs at the last step.
    """

    run: Callable[[int, dict[str, float]], None]
    every: int = 0


@dataclasses.dataclass(frozen=True)
class TrainSummary:
    """How a call of `train` ended.

    Attributes:
      step: updates made in the whole run.
      resumed_from: the step at which this call took up the run, 0 for a fresh one.
      interrupted: a signal stopped it; the state is saved.
      skipped_nonfinite: skipped updates of the whole run.
      skipped_empty: likewise.
      logs: the last log row's values.
      seconds: duration of this call's loop.
    """

    step: int
    resumed_from: int
    interrupted: bool
    skipped_nonfinite: int
    skipped_empty: int
    logs: dict[str, float]
    seconds: float


def train(
    model: tf.keras.Model,
    objectives: Sequence[Objective],
    dataset,
    config: TrainConfig,
    prepare,
    workdir=None,
    actions: Sequence[Action | Callable] = (),
    *,
    strategy=None,
    on_start: Callable[[int], None] | None = None,
    progress: bool = True,
    save_iterator: bool = True,
) -> TrainSummary:
    """Trains until `config.steps`, resuming where `workdir` left off.

    Args:
      model: whose weights are averaged, saved and, at the end, left at their average.
      objectives: see `step.make_objective`.
      dataset: infinite `tf.data.Dataset` of host batches (nests of `[n, ...]`, n = what one update
        of this process consumes).
      config: the settings.
      prepare: `(batch, seed int32[2]) -> (inputs, targets)`, on the device, per micro-batch.
      workdir: folder for `checkpoints/ log.csv tensorboard/ model.weights.h5`; None writes nothing.
      actions: `Action`s, or bare callables `(step, logs)`, called with each log row.
      strategy: from `distribution.make_strategy`; None for one device.
      on_start: called with the step at which the run goes on, once its state is restored and is
        known to fit, before any file in `workdir` changes.
      progress: show a progress bar.
      save_iterator: keep the place in `dataset` in the checkpoints. Without it, as with a data
        service, a run that goes on starts at the beginning of what `dataset` then is.

    Returns:
      A `TrainSummary`.

    Raises:
      ValueError: if the workdir holds a checkpoint of another model or of a step beyond
        `config.steps`, the dataset ends, or a batch does not divide into replicas and
        micro-batches.
      FloatingPointError: after `config.max_consecutive_skips` skipped updates in a row.
    """
    run = _Run(model, objectives, dataset, config, prepare, workdir, strategy, save_iterator)
    run.begin(on_start)
    run.add_actions(actions)
    with _stop_signals() as stop, run.progress_bar(progress) as bar:
        run.loop(stop, bar)
    run.finish()
    return run.summary(stop.is_set())


class _Run:
    """The objects of one call of `train`."""

    def __init__(
        self, model, objectives, dataset, config, prepare, workdir, strategy, save_iterator
    ):
        self.config = config
        self.strategy = strategy or tf.distribute.get_strategy()
        self.model = model
        self.objectives = objectives
        self.workdir = None if workdir is None else checkpoints.make_folder(workdir)
        self.device = distribution.single_gpu(self.strategy)
        self.is_chief = distribution.worker_index(self.strategy) == 0
        self.average = ema.WeightAverage(model.weights, config.ema_momentum, config.ema_warmup)
        self.train_step: TrainStep = make_train_step(
            objectives,
            config,
            prepare,
            strategy=strategy,
            model_state=model.non_trainable_variables,
            average=self.average,
        )
        self.train_step.check_batch(dataset.element_spec)  # before anything is written
        self.iterator = iter(dataset)
        self.save_iterator = save_iterator
        self.window = logs.LogWindow()
        self.store = self._make_store()
        self.step = self.resumed_from = self._restore()
        self._check_steps()
        self.logs = None
        self.actions = []
        self.last_row = {}
        self.clock = _Clock()
        self.start = time.perf_counter()

    def begin(self, on_start):
        """Makes the first changes in the folder, all checks being done."""
        if on_start is not None:
            on_start(self.step)
        self.logs = logs.RunLogs(self.workdir if self.is_chief else None, self.step)
        if self.step:  # the file may be lost, or of another step than the checkpoint
            self._save_weights()

    def _make_store(self):
        if self.workdir is None:
            return None
        folder = self._folders()[distribution.worker_index(self.strategy)]
        used = [objective.optimizer for objective in self.objectives]
        trackables = dict(model=self.model, average=self.average, train_step=self.train_step)
        trackables |= dict(window=self.window)
        trackables |= dict(iterator=self.iterator) if self.save_iterator else {}
        trackables |= {f"optimizer{i}": optimizer for i, optimizer in enumerate(used)}
        return checkpoints.RunCheckpoints(
            folder, trackables, model=self.model, optimizers=used, kept=self.config.checkpoints_kept
        )

    def _folders(self):
        """Each worker's folder: every one has its own place in its own data."""
        folder = self.workdir / "checkpoints"
        n_workers = distribution.n_workers(self.strategy)
        return [folder, *(folder / f"worker_{i}" for i in range(1, n_workers))]

    def _restore(self):
        if self.store is None:
            return 0
        folders = self._folders()
        if len(folders) == 1:
            return self.store.restore() or 0
        common = set.intersection(*(set(checkpoints.saved_steps(folder)) for folder in folders))
        return self.store.restore([max(common)]) if common else 0

    def _check_steps(self):
        if self.step > self.config.steps:
            raise ValueError(
                f"steps={self.config.steps}: the run in {self.workdir} has already made "
                f"{self.step} updates; name at least {self.step}, or another workdir."
            )

    def add_actions(self, actions):
        every = self.config.log_every
        for action in actions:
            action = action if isinstance(action, Action) else Action(action)
            self.actions.append(dataclasses.replace(action, every=action.every or every))

    def progress_bar(self, progress):
        shown = progress and self.is_chief
        return tqdm.tqdm(
            total=self.config.steps,
            initial=self.step,
            unit="step",
            disable=not shown,
            smoothing=0.05,
        )

    def loop(self, stop, bar):
        while self.step < self.config.steps and not stop.is_set():
            self._advance(self._next_stop(), stop, bar)
            bar.n = self.step
            if self._is_due(self.config.log_every):
                self._log(bar)
            for action in self.actions:
                if self._is_due(action.every):
                    with self.average.applied():
                        action.run(self.step, dict(self.last_row))
            if stop.is_set() or self._is_due(self.config.checkpoint_every):
                self._save()

    def _next_stop(self):
        periods = [self.config.log_every, self.config.checkpoint_every]
        periods += [action.every for action in self.actions]
        stops = [(self.step // period + 1) * period for period in periods if period]
        return min([self.config.steps, *stops])

    def _is_due(self, period):
        return self.step == self.config.steps or (period and self.step % period == 0)

    def _advance(self, goal, stop, bar):
        """Makes updates until `goal` (a skipped one does not count), then waits for the device."""
        while self.step < goal and not stop.is_set():
            pending = []
            for _ in range(goal - self.step):
                pending.append(self.train_step(self._next_batch()))
                bar.update(1)
                if stop.is_set():
                    break
            pending = [values for values in pending if values is not None]
            if pending:
                self.window.add(self.train_step.log_names, tf.stack(pending).numpy())
            self.step = int(self.train_step.step.numpy())
            self._check_skips()

    def _next_batch(self):
        """Fetches a batch while a GPU still computes the update before, and copies it there."""
        batch = self.clock.timed_next(self.iterator)
        self.clock.n_examples += batches.n_examples(batch)
        return batches.on_device(batch, self.device) if self.device else batch

    def _check_skips(self):
        n = int(self.train_step.consecutive_skips.numpy())
        if n >= self.config.max_consecutive_skips:
            raise FloatingPointError(
                f"{n} updates in a row were skipped at step {self.step} "
                f"({self._skipped('nonfinite')} non-finite, {self._skipped('empty')} empty in "
                "all): lower learning_rate, set clip_norm, or look for broken data."
            )

    def _skipped(self, kind):
        return int(getattr(self.train_step, f"skipped_{kind}").numpy())

    def _log(self, bar):
        row = self.window.take()
        row["learning_rate"] = optimizers.current_learning_rate(
            self.objectives[0].optimizer, self.step
        )
        row["skipped_updates"] = self._skipped("nonfinite") + self._skipped("empty")
        row |= self.clock.take()
        self.last_row = row
        self.logs.write(self.step, row)
        shown = dict(loss=row.get("loss", np.nan), img_s=row["images_per_second"])
        shown["data"] = row["data_wait_share"]
        bar.set_postfix({k: f"{v:.3g}" for k, v in shown.items()})

    def _save(self):
        if self.store is None:
            return
        # In this order: a kill in between leaves weights that are too new, never outdated ones.
        self._save_weights()
        self.store.save(self.step)

    def _save_weights(self):
        # Every worker saves: reading a variable that replicas share may need all of them.
        folder = self.workdir if self.is_chief else self.store.folder
        with self.average.applied():
            checkpoints.save_weights(self.model, folder / checkpoints.WEIGHTS_NAME)

    def finish(self):
        self.average.copy_to_model()
        self.logs.close()

    def summary(self, interrupted):
        return TrainSummary(
            step=self.step,
            resumed_from=self.resumed_from,
            interrupted=interrupted and self.step < self.config.steps,
            skipped_nonfinite=self._skipped("nonfinite"),
            skipped_empty=self._skipped("empty"),
            logs=self.last_row,
            seconds=time.perf_counter() - self.start,
        )


class _Clock:
    """Images per second and the share of time that the loop waited for data."""

    def __init__(self):
        self._reset()

    def _reset(self):
        self.start = time.perf_counter()
        self.waited = 0.0
        self.n_examples = 0

    def timed_next(self, iterator):
        before = time.perf_counter()
        try:
            return next(iterator)
        except StopIteration:
            raise ValueError(
                "the training dataset ended: repeat it (`dataset.repeat()`), training counts steps."
            ) from None
        finally:
            self.waited += time.perf_counter() - before

    def take(self):
        elapsed = max(time.perf_counter() - self.start, 1e-9)
        row = dict(
            images_per_second=self.n_examples / elapsed, data_wait_share=self.waited / elapsed
        )
        self._reset()
        return row


@contextlib.contextmanager
def _stop_signals():
    """Yields an event that SIGTERM and SIGINT set; a second signal acts as before."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def on_signal(number, frame):
        del frame
        stop.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["Action", "TrainSummary", "train"]
