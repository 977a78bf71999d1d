"""What a training run's folder says about itself: `run.flags` and `config.json`.

`run.flags` repeats the command (`metrabs-like-train --flagfile=RUN/run.flags`); `config.json` lets
the other commands rebuild the model without any flag. Conventions: paths as they were given.
"""

import dataclasses
import json
import os
from types import ModuleType

from metrabs_like.cli import app, systems
from metrabs_like.training import checkpoints
from metrabs_like.training.config import TrainConfig

CONFIG_FILE = "config.json"
FLAGS_FILE = "run.flags"
WEIGHTS_FILE = checkpoints.WEIGHTS_NAME
# Settings of the training that a run keeps from its first checkpoint on: with others its numbers
# would change without a word, or its checkpoints would not fit.
_KEPT = ("grad_accum_steps", "optimizer", "precision", "seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
      system: name of the system.
      model: the system's config.
      train: how it is trained.
      pipeline: the config of the pipeline that makes its examples.
      sources: `kind:DIR:COUNT` each.
    """

    system: str
    model: object
    train: TrainConfig
    pipeline: object
    sources: tuple[str, ...]

    @property
    def module(self) -> ModuleType:
        """The system's package."""
        return systems.get(self.system)

    def to_dict(self) -> dict:
        """Returns the run as JSON values."""
        values = {
            "system": self.system,
            "model": dataclasses.asdict(self.model),
            "train": dataclasses.asdict(self.train),
            "pipeline": dataclasses.asdict(self.pipeline),
            "sources": list(self.sources),
        }
        return json.loads(json.dumps(values))  # tuples become the lists that a file gives back


def save(run: Run, workdir: str, flagfile: str) -> None:
    """Writes `config.json` and `run.flags`, each by way of a temporary file.

    Args:
      run: what is to be trained.
      workdir: an existing folder.
      flagfile: text of `run.flags`.
    """
    _write(os.path.join(workdir, CONFIG_FILE), json.dumps(run.to_dict(), indent=2) + "\n")
    _write(os.path.join(workdir, FLAGS_FILE), flagfile)


def load(workdir: str) -> Run:
    """Reads the run of a folder.

    Raises:
      ValueError: if the folder holds none, or one that this version cannot read.
    """
    path = os.path.join(workdir, CONFIG_FILE)
    try:
        with open(path) as file:
            values = json.load(file)
        module = systems.get(values["system"])
        return Run(
            system=values["system"],
            model=module.Config(**values["model"]),
            train=_rebuilt(TrainConfig, values["train"]),
            pipeline=_rebuilt(systems.PIPELINES[values["system"]].config, values["pipeline"]),
            sources=tuple(values["sources"]),
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{workdir} holds no {CONFIG_FILE}: name the folder of a training run"
        ) from error
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not readable by this version ({error}): "
            "it was damaged or written by another"
        ) from error


def checkpoint_steps(workdir: str) -> list[int]:
    """Lists the steps of a run's checkpoints, ascending; none where there is no run."""
    return checkpoints.saved_steps(os.path.join(workdir, "checkpoints"))


def check_continues(run: Run, workdir: str) -> list[str]:
    """Checks that a run may continue what its folder holds.

    Args:
      run: what the flags ask for.
      workdir: the run's folder; one without a run, or not there yet, is in order.

    Returns:
      The harmless differences (`field: old -> new`), to be shown.

    Raises:
      ValueError: if the folder holds a run of another model, data or batch, or checkpoints made
        with another optimizer, precision, seed or number of micro-batches, or without averaged
        weights: they do not fit, or its curves would be mixed with others'.
    """
    if not os.path.exists(os.path.join(workdir, CONFIG_FILE)):
        return []
    old, new = load(workdir).to_dict(), run.to_dict()
    parts = ("system", "sources", "model", "pipeline")
    changes = [text for part in parts for text in _differences(part, old[part], new[part])]
    harmless = _differences("train", old["train"], new["train"])
    if checkpoint_steps(workdir):
        kept = _differences("train", _kept(old["train"]), _kept(new["train"]))
        changes += kept
        harmless = [text for text in harmless if text not in kept]
    if changes:
        raise ValueError(
            f"--workdir={workdir} holds another run ({'; '.join(changes)}): continue it with "
            f"--flagfile={os.path.join(workdir, FLAGS_FILE)}, or name a new --workdir "
            f"(and this one in --init_from to start from its weights)"
        )
    return harmless


def _differences(part, old, new):
    """Lists what differs between two JSON values, by field where they are dicts."""
    if not isinstance(old, dict):
        return [f"{part}: {old} -> {new}"] if old != new else []
    return [
        f"{part}.{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _shown(value):
    """A value for a message; of an own skeleton its name and size."""
    if isinstance(value, dict):
        return f"{value.get('name')} ({len(value.get('joint_names', ()))} joints)"
    return value


def _kept(train):
    """The settings that may not change; of the average's momentum, whether there is one."""
    kept = {key: train.get(key) for key in _KEPT}
    return {**kept, "has_ema": bool(train.get("ema_momentum"))}


def _rebuilt(config_class, values):
    """Builds a dataclass from JSON values; lists become the tuples they were."""
    return config_class(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )


def _write(path, text):
    with app.replacing(path) as temporary, open(temporary, "w") as file:
        file.write(text)
