"""Trained models of the system that ship with the package."""

import os

from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.model import build_model
from metrabs_like.training import presets
from metrabs_like.training.presets import save_preset

__all__ = ["load_preset", "preset_names", "save_preset"]

_FOLDER = os.path.join(os.path.dirname(__file__), "presets")


def preset_names():
    """Returns the names that `load_preset` knows, sorted."""
    return presets.preset_names(_FOLDER)


def load_preset(name):
    """Builds a shipped model with its weights.

    Args:
      name: one of `preset_names()`, or the path of a folder made by `save_preset`.

    Returns:
      (`tf.keras.Model`, `Config`).

    Raises:
      ValueError: if there is no such preset, or its weights are not those of its config.
    """
    return presets.load_preset(name, _FOLDER, Config, build_model)
