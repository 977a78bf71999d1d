"""The systems that the commands know: one literal dict, the only place that names them."""

import dataclasses
import json
import os
from collections.abc import Callable
from types import ModuleType

from metrabs_like.data import pipeline, whole_images
from metrabs_like.systems import centernet, metrabs

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

    A folder belongs to the system that knows most fields of its config, so that one wrong field is
    told by the right system; without any it is the first one's, whose loading tells what is wrong.
    """
    for name, module in SYSTEMS.items():
        if preset in module.preset_names():
            return name
    fields = _config_fields(preset)
    return max(SYSTEMS, key=lambda name: len(fields & _config_fields_of(SYSTEMS[name])))


def _config_fields_of(module):
    return {field.name for field in dataclasses.fields(module.Config)}


def _config_fields(folder):
    """The fields of the config in a preset's folder; none if it cannot be read."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            return set(json.load(file))
    except (OSError, ValueError, TypeError):
        return set()
