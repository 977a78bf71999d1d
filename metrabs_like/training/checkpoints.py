"""Checkpoints of a run, and weight files that both Keras generations read.

`<workdir>/checkpoints` holds what a run needs to go on to the same numbers: model, optimizers,
averaged weights, counters, the data iterator's position and the open log window. It is read by the
Keras generation that wrote it. `<workdir>/model.weights.h5` holds the averaged weights in Keras'
own weight format, which Keras 2.15 and Keras 3 read alike: layers are found by class and order.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import warnings

import tensorflow as tf

from metrabs_like.training.variables import variable_name

WEIGHTS_NAME = "model.weights.h5"
_CONTENTS_NAME = "contents.json"


class RunCheckpoints:
    """Saves and restores the whole state of a run; each save is atomic."""

    def __init__(self, folder, trackables, *, model, optimizers, kept: int):
        """Prepares the folder.

        Args:
          folder: where the checkpoints are, created if missing.
          trackables: dict name -> trackable object, all variables already created.
          model: whose variables are compared with the checkpoint's before anything is restored.
          optimizers: likewise, by class.
          kept: how many checkpoints stay.

        Raises:
          ValueError: if the folder cannot be written.
        """
        self.folder = make_folder(folder)
        self._contents = _contents(model, optimizers)
        self._last_step = None
        self._checkpoint = tf.train.Checkpoint(**trackables)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self.folder), max_to_keep=kept, checkpoint_name="step"
        )

    def steps(self) -> list[int]:
        """Lists the steps of the checkpoints on disk, ascending."""
        return saved_steps(self.folder)

    def save(self, step: int):
        """Writes a checkpoint unless this object saved or restored this step last."""
        if step == self._last_step:
            return
        _write_atomically(self.folder / _CONTENTS_NAME, json.dumps(self._contents, indent=1))
        self._manager.save(checkpoint_number=step)
        self._last_step = step

    def restore(self, steps=None) -> int | None:
        """Restores the newest readable checkpoint.

        Args:
          steps: restrict the choice to these steps (ascending); None for all on disk.

        Returns:
          Its step, or None if there is no checkpoint. A damaged one is passed over with a warning.

        Raises:
          ValueError: if the checkpoints are of another model or optimizer (naming what differs), or
            none of them is readable.
        """
        steps = self.steps() if steps is None else steps
        if not steps:
            return None
        self._check_contents()
        for step in reversed(steps):
            path = self.folder / f"step-{step}"
            damage = _damage(path)
            if not damage:
                self._restore_one(path)
                self._last_step = step
                return step
            warnings.warn(f"checkpoint {path} is damaged, passed over: {damage}", stacklevel=2)
        raise ValueError(
            f"no checkpoint in {self.folder} is readable (steps {steps}): delete the folder to "
            "start anew, or put back a copy."
        )

    def _restore_one(self, path):
        try:
            self._checkpoint.restore(str(path)).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"checkpoint {path} does not fit this run ({_shortened(error)}): continue with the "
                "settings and data that wrote it, or choose another workdir."
            ) from error

    def _check_contents(self):
        path = self.folder / _CONTENTS_NAME
        if not path.exists():
            return
        saved = json.loads(path.read_text())
        difference = _difference(saved, self._contents)
        if difference:
            raise ValueError(
                f"the checkpoints in {self.folder} are of another model or optimizer: "
                f"{difference}; continue with the settings that wrote them, or choose another "
                "workdir."
            )


def saved_steps(folder) -> list[int]:
    """Lists the steps of the checkpoints in a folder, ascending; none if it does not exist."""
    folder = pathlib.Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    matches = (re.fullmatch(r"step-(\d+)\.index", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def save_weights(model, path):
    """Writes the model's present weights to a `.weights.h5` file, atomically.

    Args:
      model: a `tf.keras.Model`.
      path: file name ending in `.weights.h5`.
    """
    path = pathlib.Path(path)
    make_folder(path.parent)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save_weights(str(part))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_weights(model, path):
    """Reads a `.weights.h5` file of either Keras generation into the model.

    Args:
      model: a built `tf.keras.Model` of the same structure as the one saved.
      path: file name.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, of another model, or lacks some of its weights.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r}: there is no such file.")
    try:
        with warnings.catch_warnings():
            # Keras 3 only warns where the file lacks a layer's weights, and leaves them random
            warnings.filterwarnings("error", message=".*freshly-initialized")
            model.load_weights(str(path))
    except (OSError, ValueError, KeyError, TypeError, UserWarning) as error:
        raise ValueError(
            f"weights={str(path)!r} does not fit the model {model.name!r} ({_shortened(error)}): "
            "give the file that belongs to this model's configuration."
        ) from error


def make_folder(folder) -> pathlib.Path:
    """Creates a folder.

    Raises:
      ValueError: if it cannot be created or written, naming it.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create the folder {folder} ({error}): choose another.") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"the folder {folder} is not writable: choose another.")
    return folder


def _damage(path) -> str:
    """Reads every tensor, which checks its checksum; returns what is wrong, or ''."""
    try:
        dtypes = tf.train.load_checkpoint(str(path)).get_variable_to_dtype_map()
        tf.raw_ops.RestoreV2(
            prefix=str(path),
            tensor_names=list(dtypes),
            shape_and_slices=[""] * len(dtypes),
            dtypes=list(dtypes.values()),
        )
    except Exception as error:  # the reader raises IndexError, OpError and more
        return _shortened(error)
    return ""


def _shortened(error) -> str:
    return " ".join(str(error).split())[:300]


def _contents(model, optimizers):
    """What a checkpoint is of, as JSON data."""
    weights = [[variable_name(v), list(v.shape), _dtype_name(v)] for v in model.weights]
    keras = tf.keras.__version__.split(".")[0] if hasattr(tf.keras, "__version__") else "3"
    return {
        "keras": keras,
        "optimizers": [type(optimizer).__name__ for optimizer in optimizers],
        "weights": weights,
    }


def _difference(saved, present):
    """Names the first difference that matters, or returns ''."""
    for key in ("keras", "optimizers"):
        if saved[key] != present[key]:
            return f"{key} {saved[key]} there, {present[key]} here"
    pairs = zip(saved["weights"], present["weights"], strict=False)
    for i, (there, here) in enumerate(pairs):
        if there[1:] != here[1:]:
            return f"weight {i} is {there[0]} {there[1:]} there, {here[0]} {here[1:]} here"
    n_there, n_here = len(saved["weights"]), len(present["weights"])
    return "" if n_there == n_here else f"{n_there} weights there, {n_here} here"


def _dtype_name(variable):
    return tf.as_dtype(variable.dtype).name


def _write_atomically(path, text):
    part = path.with_name(f".{os.getpid()}.{path.name}")
    part.write_text(text)
    os.replace(part, path)
