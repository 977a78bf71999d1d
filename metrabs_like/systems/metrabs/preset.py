"""Trained models that ship with the package: a folder with config, weights and model card each."""

import dataclasses
import os

from metrabs_like.systems.metrabs.config import Config
from metrabs_like.systems.metrabs.model import build_model
from metrabs_like.training.checkpoints import load_weights, save_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
_FOLDER = os.path.join(os.path.dirname(__file__), "presets")


def preset_names():
    """Returns the names that `load_preset` knows, sorted."""
    if not os.path.isdir(_FOLDER):
        return ()
    folders = (name for name in os.listdir(_FOLDER) if _is_preset(os.path.join(_FOLDER, name)))
    return tuple(sorted(folders))


def load_preset(name):
    """Builds a shipped model with its weights.

    Args:
      name: one of `preset_names()`, or the path of a folder made by `save_preset`.

    Returns:
      (`tf.keras.Model`, `Config`).

    Raises:
      ValueError: if there is no such preset, or its weights are not those of its config.
    """
    folder = name if os.path.isdir(name) else os.path.join(_FOLDER, name)
    if not _is_preset(folder):
        known = ", ".join(preset_names()) or "none"
        raise ValueError(
            f"there is no preset {name!r} (shipped: {known}), nor a folder of that name with "
            f"{CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    with open(os.path.join(folder, CONFIG_FILE), encoding="utf-8") as file:
        config = Config.from_json(file.read())
    # the weights come from the file: the backbone's own would be downloaded for nothing
    model = build_model(dataclasses.replace(config, weights=""))
    load_weights(model, os.path.join(folder, WEIGHTS_FILE))
    return model, config


def save_preset(folder, model, config):
    """Writes `config.json` and `model.weights.h5` so that `load_preset` reads them.

    Args:
      folder: created if absent.
      model: of `build_model(config)`.
      config: its `Config`.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, CONFIG_FILE), "w", encoding="utf-8") as file:
        file.write(config.to_json() + "\n")
    save_weights(model, os.path.join(folder, WEIGHTS_FILE))


def _is_preset(folder):
    """Whether the folder holds the two files of a preset."""
    files = (CONFIG_FILE, WEIGHTS_FILE)
    return all(os.path.isfile(os.path.join(folder, name)) for name in files)
