"""The systems that the commands know: one literal dict, the only place that names them."""

import dataclasses
import json
import os
from collections.abc import Callable
from types import ModuleType

from metrabs_like.data import pipeline, whole_images
from metrabs_like.systems import centernet, metrabs
from metrabs_like.training.presets import CONFIG_FILE

SYSTEMS: dict[str, ModuleType] = {"metrabs": metrabs, "centernet": centernet}

# Flag names of the original programs, kept beside the generated ones: alias -> config field.
ALIASES: dict[str, dict[str, str]] = {
    "metrabs": {
        "proc_side": "proc_side",
        "box_size_m": "box_size_m",
        "absloss_factor": "absloss_factor",
        "absloss_start_step": "absloss_start_step",
    }
}
TRAIN_ALIASES: dict[str, str] = {"grad_accum_steps": "grad_accum_steps"}


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """How a system's examples are made from prepared data.

    Attributes:
      prefix: of its flags.
      config: its config dataclass.
      make_train_dataset: `(sources, config, *, skeleton, seed)` -> data set.
      make_eval_dataset: `(folder, kind, config, *, skeleton, batch_size)` -> data set.
    """

    prefix: str
    config: type
    make_train_dataset: Callable
    make_eval_dataset: Callable


PIPELINES: dict[str, Pipeline] = {
    "metrabs": Pipeline(
        "data", pipeline.PipelineConfig, pipeline.make_train_dataset, pipeline.make_eval_dataset
    ),
    "centernet": Pipeline(
        "images",
        whole_images.WholeImageConfig,
        whole_images.make_train_dataset,
        whole_images.make_eval_dataset,
    ),
}


def get(name: str) -> ModuleType:
    """Returns the system of a name.

    Raises:
      ValueError: if there is none, with the names that exist.
    """
    if name not in SYSTEMS:
        raise ValueError(f"--system={name}: there is no such system; one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def fields_of_model(name: str) -> tuple[str, ...]:
    """Returns the fields of a system's pipeline that its model decides: they are no flags."""
    module = get(name)
    return tuple(module.Config().pipeline_fields())


def of_preset(preset: str) -> str:
    """Returns the system that a preset, shipped or a folder, belongs to.

    A folder belongs to the first system that accepts its config. If none does, it is that of the
    system which knows most of its fields: its loading tells what is wrong.

    Raises:
      ValueError: if there is neither such a preset nor such a folder.
    """
    presets = {shipped: name for name, m in SYSTEMS.items() for shipped in m.preset_names()}
    if preset in presets:
        return presets[preset]
    if not os.path.isfile(os.path.join(preset, CONFIG_FILE)):
        raise ValueError(
            f"there is no preset {preset!r} (shipped: {', '.join(sorted(presets))}), nor a folder "
            f"of that name with {CONFIG_FILE}"
        )
    config = _config_content(preset)
    return max(SYSTEMS, key=lambda name: _fitness(SYSTEMS[name].Config, config))


def _config_content(folder):
    """The config in a preset's folder; empty if it cannot be read."""
    try:
        with open(os.path.join(folder, CONFIG_FILE), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fitness(config_class, content):
    """How well a config fits: whether it is accepted, and how many of its fields are known."""
    n_known = len(content.keys() & {field.name for field in dataclasses.fields(config_class)})
    try:
        config_class(**content)
    except (ValueError, TypeError):
        return False, n_known
    return True, n_known
