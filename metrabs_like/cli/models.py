"""Finds a trained model by name: a run's folder, a preset's folder or a shipped preset."""

import dataclasses
import os
from types import ModuleType

import tensorflow as tf

from metrabs_like.cli import run_folder, systems
from metrabs_like.training import checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with its weights and all that is known about it.

    Attributes:
      name: as it was asked for.
      system_name: the system's name.
      config: the system's config.
      model: the network.
      run: the training run, None for a preset.
    """

    name: str
    system_name: str
    config: object
    model: tf.keras.Model
    run: run_folder.Run | None

    @property
    def system(self) -> ModuleType:
        """The system's package."""
        return systems.get(self.system_name)

    @property
    def pipeline(self):
        """How its examples are made: as in its training, for a preset by the defaults."""
        if self.run is not None:
            return self.run.pipeline
        pipeline = systems.PIPELINES[self.system_name]
        return pipeline.config(**self.config.pipeline_fields())

    def predictor(self):
        """Returns the network behind its image-level interface, a module that can be exported."""
        return self.system.make_predictor(self.model, self.config, self.pipeline)


def load(name: str, system: str | None = None, flag: str = "model") -> TrainedModel:
    """Loads a trained model.

    Args:
      name: folder of a training run (its averaged weights are taken), folder of a preset, or name
        of a shipped preset.
      system: which it must be; None takes any.
      flag: that named the model, for messages.

    Raises:
      ValueError: if there is no such model, it is of another system, it has no weights yet, or its
        weights are of another.
    """
    try:
        if os.path.exists(os.path.join(name, run_folder.FLAGS_FILE)):
            trained = _from_run(name)
        else:
            found = system if system and not os.path.isdir(name) else systems.of_preset(name)
            model, config = systems.get(found).load_preset(name)
            trained = TrainedModel(
                name=name, system_name=found, config=config, model=model, run=None
            )
    except ValueError as error:
        raise ValueError(f"--{flag}={name}: {error}") from error
    if system and trained.system_name != system:
        raise ValueError(
            f"--{flag}={name} is a model of the system {trained.system_name!r}, not {system!r}"
        )
    return trained


def _from_run(workdir):
    """Builds the model of a run's config and reads the weights beside it."""
    run = run_folder.load(workdir)
    path = os.path.join(workdir, run_folder.WEIGHTS_FILE)
    if not os.path.exists(path):
        steps = run_folder.checkpoint_steps(workdir)
        state = f"its last checkpoint is of step {steps[-1]}" if steps else "it has no checkpoint"
        effect = ", which writes the file anew at once" if steps else ""
        raise ValueError(
            f"{workdir} holds no {run_folder.WEIGHTS_FILE} ({state}): continue its training with "
            f"--flagfile={os.path.join(workdir, run_folder.FLAGS_FILE)}{effect}"
        )
    # Weights come from the file: pretrained ones would be downloaded for nothing.
    model = run.module.build_model(dataclasses.replace(run.model, weights=""))
    checkpoints.load_weights(model, path)
    return TrainedModel(
        name=workdir, system_name=run.system, config=run.model, model=model, run=run
    )
