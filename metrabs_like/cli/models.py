"""Finds a trained model by name: a run's folder, a preset's folder or a shipped preset."""

import dataclasses
import os
from types import ModuleType

import tensorflow as tf

from metrabs_like.cli import run_folder, systems
from metrabs_like.data.pipeline import PipelineConfig
from metrabs_like.training import checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with its weights and all that is known about it.

    Attributes:
      name: as it was asked for.
      system: the system's package.
      config: the system's config.
      model: the network.
      run: the training run, None for a preset.
    """

    name: str
    system: ModuleType
    config: object
    model: tf.keras.Model
    run: run_folder.Run | None

    @property
    def pipeline(self) -> PipelineConfig:
        """The crops that the model was trained on; a preset's are those of the defaults."""
        if self.run is not None:
            return self.run.pipeline
        return PipelineConfig(proc_side=self.config.proc_side)

    def predictor(self):
        """Returns the network behind the published interface, a `serving.PosePredictor`."""
        from metrabs_like import serving

        def decode(outputs, inputs):
            return self.system.decode(outputs, inputs, self.config)

        return serving.PosePredictor(
            serving.crop_predictor(self.system.joint_network(self.model), decode),
            self.config.proc_side,
            self.config.joints,
            box_padding=self.pipeline.box_padding,
            point_predictor=self.system.point_predictor(self.model, self.config),
        )


def load(name: str, system: str = "metrabs", flag: str = "model") -> TrainedModel:
    """Loads a trained model.

    Args:
      name: folder of a training run (its averaged weights are taken), folder of a preset, or name
        of a shipped preset.
      system: whose presets are meant.
      flag: that named the model, for messages.

    Raises:
      ValueError: if there is no such model, it has no weights yet, or its weights are of another.
    """
    try:
        if os.path.exists(os.path.join(name, run_folder.FLAGS_FILE)):
            return _from_run(name)
        module = systems.get(system)
        model, config = module.load_preset(name)
    except ValueError as error:
        raise ValueError(f"--{flag}={name}: {error}") from error
    return TrainedModel(name=name, system=module, config=config, model=model, run=None)


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
    return TrainedModel(name=workdir, system=run.module, config=run.model, model=model, run=run)
