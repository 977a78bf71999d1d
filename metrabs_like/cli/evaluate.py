"""Measures a trained model on a prepared data set.

  metrabs-like-evaluate --model=runs/demo --dataset=data/held_out

Prints a table and writes `evaluation.json`. Absolute poses (metrabs) stand beside a baseline, the
mean pose of the training people at the depth that the box's height tells, with a plot of error
against predicted uncertainty. Detectors (centernet) are measured by COCO's average precision of
boxes and keypoints; `results.json` and `ground_truth.json` are for COCO's own tool, `pictures.png`
is to look at.
"""

import os
import sys

from absl import flags

from metrabs_like.cli import app, models
from metrabs_like.cli.evaluators import EVALUATORS
from metrabs_like.data.dataset_info import DatasetInfo


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags: its own, then those of each system's evaluator."""
    flags.DEFINE_string("model", "", "A run's folder, a preset's folder or a preset.", values)
    flags.DEFINE_string("dataset", "", "Folder of a prepared data set.", values)
    flags.DEFINE_integer("batch_size", 64, "Examples at a time.", 1, flag_values=values)
    flags.DEFINE_string("output_dir", "", "Empty takes MODEL/evaluation.", values)
    for evaluator in EVALUATORS.values():
        evaluator.define_flags(values)


def run(values: flags.FlagValues) -> None:
    """Evaluates.

    Raises:
      ValueError: for a model or data set that is missing, damaged or does not fit.
    """
    app.require(values, "model", "dataset")
    try:
        DatasetInfo.load(values.dataset)
    except ValueError as error:  # before the model is loaded and a folder made
        raise ValueError(f"--dataset={values.dataset}: {error}") from error
    output_dir = _output_dir(values)
    trained = models.load(values.model)
    _check_flags_are_read(values, trained)
    EVALUATORS[trained.system_name].run(trained, values, output_dir)


def _check_flags_are_read(values, trained):
    """Refuses settings for models of another system."""
    for system, evaluator in EVALUATORS.items():
        of_system = flags.FlagValues()
        evaluator.define_flags(of_system)
        for name in of_system if system != trained.system_name else ():
            if values[name].value != values[name].default:
                raise ValueError(
                    f"--{name} is for models of the system {system!r}, and {values.model} is of "
                    f"{trained.system_name!r}: leave it out"
                )


def _output_dir(values):
    """Where the report goes; shipped presets have no folder to write into."""
    if not values.output_dir and not os.path.isdir(values.model):
        raise ValueError(f"--output_dir is missing: {values.model} is no folder to write into")
    path = values.output_dir or os.path.join(values.model, "evaluation")
    return app.writable_folder(path, "output_dir")


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
