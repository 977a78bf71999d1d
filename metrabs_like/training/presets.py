"""Trained models as folders: config, weights and model card each; some ship with the package."""

import dataclasses
import os
from collections.abc import Callable

from metrabs_like.training.checkpoints import load_weights, save_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"


def preset_names(shipped: str) -> tuple[str, ...]:
    """Lists the presets in a folder, sorted; none where there is no such folder."""
    if not os.path.isdir(shipped):
        return ()
    folders = (name for name in os.listdir(shipped) if _is_preset(os.path.join(shipped, name)))
    return tuple(sorted(folders))


def load_preset(name: str, shipped: str, config_class, build_model: Callable):
    """Builds a model with its weights.

    Args:
      name: of a preset in `shipped`, or the path of a folder made by `save_preset`.
      shipped: folder of presets.
      config_class: the system's config.
      build_model: `config` -> `tf.keras.Model`.

    Returns:
      (`tf.keras.Model`, config).

    Raises:
      ValueError: if there is no such preset, or its weights are not those of its config.
    """
    folder = name if os.path.isdir(name) else os.path.join(shipped, name)
    if not _is_preset(folder):
        known = ", ".join(preset_names(shipped)) or "none"
        raise ValueError(
            f"there is no preset {name!r} (shipped: {known}), nor a folder of that name with "
            f"{CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    with open(os.path.join(folder, CONFIG_FILE), encoding="utf-8") as file:
        config = config_class.from_json(file.read())
    # the weights come from the file: the backbone's own would be read for nothing
    model = build_model(dataclasses.replace(config, weights=""))
    load_weights(model, os.path.join(folder, WEIGHTS_FILE))
    return model, config


def save_preset(folder: str, model, config) -> None:
    """Writes `config.json` and `model.weights.h5` so that `load_preset` reads them.

    Args:
      folder: created if absent.
      model: of `build_model(config)`.
      config: its config.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, CONFIG_FILE), "w", encoding="utf-8") as file:
        file.write(config.to_json() + "\n")
    save_weights(model, os.path.join(folder, WEIGHTS_FILE))


def _is_preset(folder):
    """Whether the folder holds the two files of a preset."""
    files = (CONFIG_FILE, WEIGHTS_FILE)
    return all(os.path.isfile(os.path.join(folder, name)) for name in files)
