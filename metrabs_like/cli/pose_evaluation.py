"""Measures a trained model on held-out people, beside the baseline, and writes the report.

Conventions: every key carries its unit; pixels are those of the crop; shares lie in 0..1.
"""

import os

import numpy as np
import tensorflow as tf
from absl import flags

from metrabs_like import units
from metrabs_like.cli import baselines, systems
from metrabs_like.cli.baselines import MeanPerson
from metrabs_like.cli.models import TrainedModel
from metrabs_like.data.dataset_info import DatasetInfo, write_json_atomically
from metrabs_like.data.pipeline import damage_named
from metrabs_like.data.sources import parse_source
from metrabs_like.geometry.camera import project_pose
from metrabs_like.metrics.accumulate import MetricSums
from metrabs_like.viz.reliability import save_error_vs_uncertainty, spearman_correlation

_VALIDATION_BATCH = 64
PER_JOINT = "mpjpe_per_joint_mm"
DEPTH = "median_relative_root_depth_error"
# What the table shows, and in which words; everything is in the JSON.
ROWS = {
    "mpjpe_mm": "MPJPE, root-relative [mm]",
    "pa_mpjpe_mm": "PA-MPJPE, similarity aligned [mm]",
    "absolute_error_mm": "absolute error, camera frame [mm]",
    "pck_at_100mm": "PCK at 100 mm",
    "pck_at_150mm": "PCK at 150 mm",
    "auc_at_100mm": "AUC to 100 mm",
    "auc_at_150mm": "AUC to 150 mm",
    "relative_root_depth_error": "relative root depth error, mean",
    DEPTH: "relative root depth error, median",
    "reprojection_error_px": "reprojection error [px of the crop]",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the baseline."""
    flags.DEFINE_string(
        "baseline_dataset",
        "",
        "Prepared data set that the mean pose comes from; empty takes the run's first kp3d source.",
        values,
    )
    flags.DEFINE_integer(
        "baseline_people", 4096, "How many people to average.", 1, flag_values=values
    )


def run(trained: TrainedModel, values: flags.FlagValues, output_dir: str) -> None:
    """Measures a model and the baseline; prints a table, writes report and plot.

    Args:
      trained: the model.
      values: the flags of the command.
      output_dir: an existing folder.

    Raises:
      ValueError: for a data set that is damaged or does not fit.
    """
    kind, dataset = _examples(trained, values.dataset, values.batch_size)
    source = _baseline_source(values, trained) if kind == "kp3d" else None
    mean_person = None
    with damage_named(filter(None, (values.dataset, source))):
        if source:
            mean_person = baselines.measure(
                source, trained.pipeline, trained.config.joints, values.baseline_people
            )
        model, baseline = measure(trained, dataset, kind, mean_person)
    content = report(trained, values.dataset, model, baseline, mean_person)
    print(f"{values.model} on {content['n_people']} people of {values.dataset}")
    print(table(content))
    if PER_JOINT in content:
        print("MPJPE per joint [mm], worst first:")
        print(joint_table(content))
    for path in save(content, output_dir, model):
        print(f"written: {path}")


def _baseline_source(values, trained):
    """The data set whose people are averaged, None where there is none."""
    if values.baseline_dataset:
        return values.baseline_dataset
    sources = [parse_source(text) for text in trained.run.sources] if trained.run else []
    found = [source.path for source in sources if source.kind == "kp3d"]
    if found and os.path.isdir(found[0]):
        return found[0]
    print("no training data at hand: no baseline (name one with --baseline_dataset)")
    return None


class Measurement:
    """Adds up one estimator's errors over batches.

    Attributes:
      n_people: examples so far.
    """

    def __init__(self, system, config):
        self._system = system
        self._config = config
        self._sums = MetricSums()
        self._values = []
        self.n_people = 0

    def add(self, decoded, targets) -> None:
        """Adds one batch: decoded poses and the targets of `prepare`."""
        self._sums.add(self._system.evaluate(decoded, targets, self._config))
        kinds = [target for target in targets.values() if isinstance(target, dict)]
        self.n_people += sum(kind["point_validity"].shape[0] for kind in kinds)
        if "kp3d" in targets or "param" in targets:
            collected = self._system.collect(decoded, targets, self._config)
            self._values.append({key: np.asarray(value) for key, value in collected.items()})

    def values(self, key: str) -> np.ndarray:
        """Returns single values of `collect`, of all batches."""
        return np.concatenate([part[key] for part in self._values] or [np.zeros(0)])

    def result(self) -> dict:
        """Returns the metrics, numbers and arrays, NaN where nothing was counted."""
        result = self._sums.result()
        depth_errors = self.values("person_relative_depth_error")
        if depth_errors.size:
            result[DEPTH] = float(np.median(depth_errors))
        return result


def make_validation(trained: TrainedModel, folder: str):
    """Makes the function that training calls now and then.

    Args:
      trained: the model.
      folder: a prepared data set.

    Returns:
      Function without arguments to a dict of numbers, JSON values.

    Raises:
      ValueError: for a data set that is damaged or does not fit.
    """
    kind, dataset = _examples(trained, folder, _VALIDATION_BATCH)

    def validate():
        measured, _ = measure(trained, dataset, kind, None)
        return scalars(measured.result())

    return validate


def _examples(trained, folder, batch_size):
    """Returns the kind of annotation to measure with, and the examples."""
    info = DatasetInfo.load(folder)
    kind = info.evaluation_kind
    trained.system.check_source(kind, info, trained.config)
    make = systems.PIPELINES[trained.system_name].make_eval_dataset
    joints = trained.config.joints
    return kind, make(folder, kind, trained.pipeline, skeleton=joints, batch_size=batch_size)


def measure(
    trained: TrainedModel, dataset, kind: str, mean_person: MeanPerson | None
) -> tuple[Measurement, Measurement | None]:
    """Runs a model over a data set.

    Args:
      trained: the model.
      dataset: of `make_eval_dataset`.
      kind: of the data set's annotations.
      mean_person: the baseline; None leaves it out.

    Returns:
      Measurements of the model and of the baseline (None without one).
    """
    system, config = trained.system, trained.config

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(batch):
        inputs, targets = system.prepare(batch, config, None)
        outputs = trained.model(inputs, training=False)
        return system.decode(outputs, inputs, config), targets

    model = Measurement(system, config)
    baseline = Measurement(system, config) if mean_person else None
    for batch in dataset:
        decoded, targets = predict(batch)
        model.add(decoded, targets)
        if mean_person:
            sub_batch = {key: batch[kind][key].numpy() for key in ("box", "intrinsics")}
            baseline.add(_as_decoded(mean_person, sub_batch, trained.pipeline), targets)
    return model, baseline


def _as_decoded(mean_person, sub_batch, pipeline):
    """The baseline in the form of a system's `decode`."""
    poses = tf.constant(mean_person.placed(sub_batch, pipeline))
    intrinsics = tf.constant(sub_batch["intrinsics"])
    return {
        "coords3d_abs": poses,
        "coords2d": project_pose(poses, intrinsics),
        "uncert": tf.ones_like(poses[..., 0]),
    }


def report(trained: TrainedModel, dataset_dir: str, model, baseline, mean_person) -> dict:
    """Puts the numbers together as JSON values.

    Args:
      trained: the model.
      dataset_dir: what it was measured on.
      model: its `Measurement`.
      baseline: the baseline's, or None.
      mean_person: the baseline, or None.
    """
    names = trained.config.joints.joint_names
    metrics = model.result()
    per_joint = metrics.pop(PER_JOINT, None)
    content = {
        "model": trained.name,
        "dataset": dataset_dir,
        "n_people": model.n_people,
        "protocol": protocol(trained),
        "metrics": metrics,
    }
    if per_joint is not None:
        content[PER_JOINT] = dict(zip(names, per_joint.tolist(), strict=True))
        content["uncertainty_rank_correlation"] = spearman_correlation(
            model.values("point_uncert_m"), model.values("point_error_m")
        )
    if baseline:
        numbers = baseline.result()
        numbers.pop(PER_JOINT, None)
        content["baseline"] = {
            "what": "mean training pose at the depth of mean body height over box height",
            "n_training_people": mean_person.n_people,
            "mean_body_height_m": mean_person.body_height_m,
            "metrics": numbers,
        }
        content["ratio_to_baseline"] = {
            key: metrics[key] / numbers[key] for key in ROWS if numbers.get(key)
        }
    return content


def protocol(trained: TrainedModel) -> dict:
    """Says how the numbers were measured; only those of one protocol may be compared."""
    return {
        "root": trained.config.root_joint or "mean of the valid points",
        "mpjpe": "protocol 1: both poses relative to their own root, no rotation, no scale",
        "pa_mpjpe": "protocol 2: best rotation, translation and scale per person, no reflection",
        "absolute_error": "camera frame, nothing aligned",
        "averaged_over": "valid points of the whole data set",
        "units": "that of each key's ending: mm, m, px of the crop; others are shares in 0..1",
        "crop_side_px": trained.config.proc_side,
        "boxes": "of the data set",
        "test_time_augmentation": "none",
    }


def scalars(metrics: dict) -> dict:
    """Returns the entries that are single numbers, as JSON values."""
    return {key: value for key, value in _without_nan(metrics).items() if np.ndim(value) == 0}


def table(content: dict) -> str:
    """Formats a report for the terminal, a row a metric, beside the baseline if there is one."""
    baseline = content.get("baseline", {}).get("metrics", {})
    lines = [f"{'':42}{'model':>10}" + (f"{'baseline':>12}{'ratio':>9}" if baseline else "")]
    for key, words in ROWS.items():
        if key not in content["metrics"]:
            continue
        line = f"{words:42}{_number(content['metrics'][key]):>10}"
        if key in baseline:
            ratio = content["ratio_to_baseline"].get(key, float("nan"))
            line += f"{_number(baseline[key]):>12}{ratio:>9.3f}"
        lines.append(line)
    if "uncertainty_rank_correlation" in content:
        words = "rank correlation of error and uncertainty"
        lines.append(f"{words:42}{content['uncertainty_rank_correlation']:>10.3f}")
    if baseline:
        lines.append(f"baseline: {content['baseline']['what']}")
    return "\n".join(lines)


def joint_table(content: dict) -> str:
    """Formats the errors per joint, worst first; joints that no person here has are counted."""
    errors = content.get(PER_JOINT, {})
    measured = {name: error for name, error in errors.items() if np.isfinite(error)}
    per_joint = sorted(measured.items(), key=lambda item: -item[1])
    lines = [f"  {name:20}{error:8.1f}" for name, error in per_joint]
    if len(measured) < len(errors):
        lines.append(f"  ({len(errors) - len(measured)} joints are not annotated here)")
    return "\n".join(lines)


def save(content: dict, output_dir: str, model: Measurement) -> list[str]:
    """Writes `evaluation.json` and, with 3D annotations, the plot of error against uncertainty.

    Returns:
      The paths written.
    """
    path = os.path.join(output_dir, "evaluation.json")
    write_json_atomically(path, _without_nan(content))
    errors = model.values("point_error_m")
    if not errors.size:
        return [path]
    plot = os.path.join(output_dir, "error_vs_uncertainty.png")
    uncertainties = model.values("point_uncert_m")
    save_error_vs_uncertainty(plot, errors * units.MM_PER_M, uncertainties * units.MM_PER_M)
    return [path, plot]


def _number(value) -> str:
    return f"{value:.4f}" if abs(value) < 2 else f"{value:.1f}"


def _without_nan(value):
    """JSON knows no NaN: what was not measured is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
