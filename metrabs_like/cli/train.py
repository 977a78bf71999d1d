"""Trains a model; started again with the same flags it continues where it stopped.

  metrabs-like-train --flagfile=flags/metrabs/demo.flags --workdir=runs/demo

The work folder receives `run.flags` (repeats this command), `config.json`, `log.csv`,
`curves.png`, `tensorboard/`, `checkpoints/` and `model.weights.h5` (averaged weights). SIGTERM
saves and ends with exit code 0.
"""

import dataclasses
import functools
import os
import sys

import tensorflow as tf
from absl import flags

from metrabs_like.cli import app, evaluators, flag_bridge, models, run_folder, systems
from metrabs_like.data import pipeline, service
from metrabs_like.data.dataset_info import DatasetInfo
from metrabs_like.data.sources import APPEARANCE_CHANGES, ShardsSkipped
from metrabs_like.training import distribution, optimizers
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.logs import LOG_NAME, JsonLinesLog
from metrabs_like.training.loop import Action, train
from metrabs_like.training.precision import precision_scope
from metrabs_like.training.step import make_objective
from metrabs_like.viz.curves import save_training_curves

VALIDATION_FILE = "validation.jsonl"
CURVES_FILE = "curves.png"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags: its own, then those of the configs."""
    flags.DEFINE_enum("system", "metrabs", sorted(systems.SYSTEMS), "What to train.", values)
    flags.DEFINE_string("workdir", "", "Folder of the run.", values)
    flags.DEFINE_list(
        "sources",
        [],
        "Prepared data sets and their examples per batch: KIND:DIR:COUNT,... where KIND is param, "
        "kp3d, dense or kp2d. A data set may have changes of its own: "
        "kp3d:data/agora3:8:background=0.7:blur=0.",
        values,
    )
    flags.DEFINE_string(
        "init_from",
        "",
        "Start from the weights of a run's folder, a preset's folder or a preset; points of the "
        "same name keep theirs.",
        values,
    )
    flags.DEFINE_string(
        "validation", "", "Prepared data set to measure now and then (validation.jsonl).", values
    )
    flags.DEFINE_integer(
        "validation_every", 2000, "Updates between measurements.", 1, flag_values=values
    )
    flags.DEFINE_string(
        "data_service",
        "",
        "Dispatcher of a tf.data service whose workers make the batches, grpc://HOST:PORT. The "
        "place in the data is not saved: a run that goes on shuffles anew.",
        values,
    )
    flag_bridge.define_flags(
        TrainConfig,
        "train",
        values,
        aliases={**systems.TRAIN_ALIASES, "distribution": "distribution"},
    )
    for name, module in systems.SYSTEMS.items():
        examples = systems.PIPELINES[name]
        of_model = systems.fields_of_model(name)
        flag_bridge.define_flags(examples.config, examples.prefix, values, exclude=of_model)
        aliases = systems.ALIASES.get(name)
        flag_bridge.define_flags(module.Config, name, values, aliases=aliases)


def build_run(values: flags.FlagValues) -> run_folder.Run:
    """Builds the configs from parsed flags.

    Raises:
      ValueError: naming the field, its value and what it may be.
    """
    _check_flags_are_read(values)
    model = flag_bridge.build(systems.get(values.system).Config, values.system, values)
    examples, of_model = systems.PIPELINES[values.system], model.pipeline_fields()
    run_ = run_folder.Run(
        system=values.system,
        model=model,
        train=flag_bridge.build(TrainConfig, "train", values),
        pipeline=flag_bridge.build(
            examples.config, examples.prefix, values, exclude=tuple(of_model), **of_model
        ),
        sources=tuple(values.sources),
    )
    _check_changes_are_made(run_)
    return run_


def _check_changes_are_made(run_):
    """Refuses changes of the crops' appearance where the model's config turns all of them off.

    But for colours, whose usual probability is 1.
    """
    if not isinstance(run_.pipeline, pipeline.PipelineConfig) or run_.model.photometric:
        return
    for text in run_.sources:
        source = pipeline.parse_source(text)
        for change in APPEARANCE_CHANGES:
            probability = run_.pipeline.probabilities(source)[change]
            if change != "colour" and probability > 0:
                own = f":{change}={probability:g} of the source {text}"
                flag = f"--data_{change}_probability={probability:g}"
                raise ValueError(
                    f"--no{run_.system}_photometric turns all changes of appearance off, and "
                    f"{own if change in dict(source.probabilities) else flag} asks for one: "
                    f"set it to 0, or leave --{run_.system}_photometric on "
                    "(--data_colour_probability=0 alone keeps the colours as they are)"
                )


def _check_flags_are_read(values):
    """Refuses settings of another system than the one that is trained."""
    own = {values.system, systems.PIPELINES[values.system].prefix}
    for other in systems.SYSTEMS:
        for prefix in {other, systems.PIPELINES[other].prefix} - own:
            for name in values:
                if name.startswith(f"{prefix}_") and values[name].value != values[name].default:
                    raise ValueError(
                        f"--{name} is a setting of the system {other!r}, and this run trains "
                        f"{values.system!r}: leave it out or change --system"
                    )


def run(values: flags.FlagValues) -> None:
    """Trains.

    Raises:
      ValueError: for settings, data or a work folder that do not fit.
    """
    app.require(values, "workdir", "sources")
    # First of all: several workers can only be joined before TensorFlow does anything else.
    strategy = distribution.make_strategy(values.train_distribution)
    run_ = build_run(values)
    # The initial weights, too: a run killed before its first checkpoint starts again as it did.
    tf.keras.utils.set_random_seed(run_.train.seed % 2**31)
    sources = [pipeline.parse_source(text) for text in run_.sources]
    for source in sources:
        run_.module.check_source(source.kind, DatasetInfo.load(source.path), run_.model)
    workdir = app.writable_folder(values.workdir, "workdir")
    for change in run_folder.check_continues(run_, workdir):
        print(f"continuing with a change: {change}")
    with app.plain_warnings() as caught:
        dataset = _dataset(run_, sources, values, workdir, strategy)
    n_skipped = sum(w.n_shards for w in caught if isinstance(w, ShardsSkipped))
    with strategy.scope(), precision_scope(run_.train.precision):
        model = _build_model(run_, values, workdir)
        objective = _objective(run_, model)

    validation_log = JsonLinesLog(os.path.join(workdir, VALIDATION_FILE))

    def on_start(step):
        # Not earlier: a start that is refused must leave the folder as it was.
        validation_log.drop_rows_after(step)
        run_folder.save(run_, workdir, flag_bridge.flagfile_text(values, _own_flags(values)))
        print(f"{workdir}: {model.count_params():,} parameters, on {_devices()}")

    validation = [values.validation] if values.validation else []
    with pipeline.damage_named([source.path for source in sources] + validation):
        summary = train(
            model,
            [objective],
            dataset,
            run_.train,
            lambda batch, seed: run_.module.prepare(batch, run_.model, seed),
            workdir,
            _validation(run_, model, values, validation_log),
            strategy=strategy,
            on_start=on_start,
            save_iterator=not values.data_service,
        )
    log = os.path.join(workdir, LOG_NAME)
    if os.path.exists(log):
        with app.replacing(os.path.join(workdir, CURVES_FILE)) as picture:
            save_training_curves(picture, log)
    _print_summary(summary, workdir)
    if n_skipped:
        print(f"{workdir}: {n_skipped} damaged shard(s) of the sources were left out")


def _dataset(run_, sources, values, workdir, strategy):
    """The training batches, made here or by the workers of `--data_service`."""
    make = functools.partial(
        systems.PIPELINES[run_.system].make_train_dataset,
        sources,
        run_.pipeline,
        skeleton=run_.model.joints,
    )
    seed = distribution.worker_seed(run_.train.seed, strategy)
    if not values.data_service:
        return make(seed=seed)
    step = max(run_folder.checkpoint_steps(workdir), default=0)
    if step:
        print(f"--data_service: the data is shuffled anew at step {step}, its place is not saved")
    return service.distribute(make, values.data_service, seed=seed, step=step)


def _devices():
    """What TensorFlow found to train on: a GPU that is missed is seen at once."""
    gpus = tf.config.list_logical_devices("GPU")
    return f"{len(gpus)} GPU(s)" if gpus else "the CPU (TensorFlow finds no GPU)"


def _build_model(run_, values, workdir):
    """Builds the network; a fresh run may take weights of a file or of another run.

    One that goes on takes its checkpoint's: the file that it began with may be gone.
    """
    system, config = run_.module, run_.model
    is_fresh = not run_folder.checkpoint_steps(workdir)
    if is_fresh and not values.init_from:
        return system.build_model(config)
    model = system.build_model(dataclasses.replace(config, weights=""))
    if not is_fresh:
        return model
    source = models.load(values.init_from, values.system, "init_from")
    report = system.initialize_from(model, config, source.model, source.config)
    print(f"--init_from={values.init_from}: {report}")
    return model


def _objective(run_, model):
    """The loss of the system with the optimizer that the flags name."""
    system, config = run_.module, run_.model
    backbone = model.get_layer(config.backbone).trainable_variables
    optimizer = optimizers.make_optimizer(run_.train, model.trainable_variables, backbone)
    return make_objective(
        model,
        lambda outputs, targets, step: system.loss_terms(outputs, targets, config, step),
        optimizer,
        expected_counts=lambda targets: system.expected_counts(targets, config),
    )


def _validation(run_, model, values, log):
    """The action that measures the averaged weights now and then; none without `--validation`."""
    if not values.validation:
        return []
    trained = models.TrainedModel(
        name=values.workdir, system_name=run_.system, config=run_.model, model=model, run=run_
    )
    measure = evaluators.EVALUATORS[run_.system].make_validation(trained, values.validation)

    def validate(step, logs):
        del logs
        log.write({"step": step, **measure()})

    return [Action(validate, every=values.validation_every)]


def _own_flags(values):
    """The flags that `run.flags` repeats: all but the common ones and the aliases."""
    return [
        name
        for name in values
        if name not in app.COMMON_FLAGS and not values[name].help.startswith("Alias for")
    ]


def _print_summary(summary, workdir):
    """Says how the run ended and what comes next."""
    took = f"{summary.step - summary.resumed_from} updates in {summary.seconds:.0f} s"
    if summary.interrupted:
        print(f"{workdir}: stopped and saved at step {summary.step} ({took}); start again to go on")
        return
    skipped = summary.skipped_nonfinite + summary.skipped_empty
    print(f"{workdir}: finished at step {summary.step} ({took}; {skipped} updates skipped)")


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
