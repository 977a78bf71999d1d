"""Writing a predictor as a SavedModel that needs nothing but TensorFlow to load."""

import os
import shutil
import tempfile

import tensorflow as tf


def save(predictor: tf.Module, path: str | os.PathLike) -> None:
    """Writes the SavedModel; an earlier one is replaced only once the new one is complete.

    Signatures are the predictor's `signatures`: `serving_default` is dense, for TF Serving. After
    `tf.saved_model.load` the methods and attributes of the predictor are there with their defaults.

    Args:
      predictor: What to save: `PosePredictor` or another module with `signatures`.
      path: The folder; its parent is created.

    Raises:
      ValueError: if the folder cannot be written, or holds something that is no SavedModel.
    """
    path = os.path.abspath(os.fspath(path))
    _check_target(path)
    parent = os.path.dirname(path)
    try:
        os.makedirs(parent, exist_ok=True)
        staging = tempfile.mkdtemp(prefix=f".{os.path.basename(path)}.", dir=parent)
    except OSError as error:
        raise ValueError(
            f"SavedModel path {path!r} cannot be written ({error.strerror}); "
            "choose a folder you own."
        ) from error
    try:
        new, old = os.path.join(staging, "new"), os.path.join(staging, "old")
        tf.saved_model.save(predictor, new, signatures=predictor.signatures)
        if os.path.isdir(path):
            os.rename(path, old)
        os.rename(new, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_target(path):
    """Only an empty folder or an earlier SavedModel may be replaced."""
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path) or (
        os.listdir(path) and not os.path.exists(os.path.join(path, "saved_model.pb"))
    ):
        raise ValueError(
            f"SavedModel path {path!r} exists and is no SavedModel; "
            "choose another folder or remove it."
        )
