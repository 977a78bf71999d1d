"""Measures a trained model on a prepared data set, beside a baseline.

  metrabs-like-evaluate --model=runs/demo --dataset=data/held_out

Prints a table; writes `evaluation.json` and a plot of error against predicted uncertainty. The
baseline is the mean pose of the training people at the depth that the box's height tells.
"""

import os
import sys

from absl import flags

from metrabs_like.cli import app, baselines, evaluation, models
from metrabs_like.data import pipeline
from metrabs_like.data.dataset_info import DatasetInfo


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("model", "", "A run's folder, a preset's folder or a preset.", values)
    flags.DEFINE_string("dataset", "", "Folder of a prepared data set.", values)
    flags.DEFINE_string(
        "baseline_dataset",
        "",
        "Prepared data set that the mean pose comes from; empty takes the run's first kp3d source.",
        values,
    )
    flags.DEFINE_integer(
        "baseline_people", 4096, "How many people to average.", 1, flag_values=values
    )
    flags.DEFINE_integer("batch_size", 64, "Examples at a time.", 1, flag_values=values)
    flags.DEFINE_string("output_dir", "", "Empty takes MODEL/evaluation.", values)


def run(values: flags.FlagValues) -> None:
    """Evaluates.

    Raises:
      ValueError: for a model or data set that is missing, damaged or does not fit.
    """
    app.require(values, "model", "dataset")
    info = DatasetInfo.load(values.dataset)
    output_dir = _output_dir(values)
    trained = models.load(values.model)
    kind, skeleton, crops = info.evaluation_kind, trained.config.joints, trained.pipeline
    trained.system.check_source(kind, info, trained.config)
    dataset = pipeline.make_eval_dataset(
        values.dataset, kind, crops, skeleton=skeleton, batch_size=values.batch_size
    )
    source = _baseline_source(values, trained) if kind == "kp3d" else None
    mean_person = None
    with pipeline.damage_named(filter(None, (values.dataset, source))):
        if source:
            mean_person = baselines.measure(source, crops, skeleton, values.baseline_people)
        model, baseline = evaluation.measure(trained, dataset, kind, mean_person)
    content = evaluation.report(trained, values.dataset, model, baseline, mean_person)
    print(f"{values.model} on {content['n_people']} people of {values.dataset}")
    print(evaluation.table(content))
    if evaluation.PER_JOINT in content:
        print("MPJPE per joint [mm], worst first:")
        print(evaluation.joint_table(content))
    for path in evaluation.save(content, output_dir, model):
        print(f"written: {path}")


def _output_dir(values):
    """Where the report goes; shipped presets have no folder to write into."""
    if not values.output_dir and not os.path.isdir(values.model):
        raise ValueError(f"--output_dir is missing: {values.model} is no folder to write into")
    path = values.output_dir or os.path.join(values.model, "evaluation")
    return app.writable_folder(path, "output_dir")


def _baseline_source(values, trained):
    """The data set whose people are averaged, None where there is none."""
    if values.baseline_dataset:
        return values.baseline_dataset
    sources = [pipeline.parse_source(text) for text in trained.run.sources] if trained.run else []
    found = [source.path for source in sources if source.kind == "kp3d"]
    if found and os.path.isdir(found[0]):
        return found[0]
    print("no training data at hand: no baseline (name one with --baseline_dataset)")
    return None


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
