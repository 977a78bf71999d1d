"""Mixed data sets in one command: five native layouts, synthetic people and COCO, one training.

  make demo-mixed COCO_DIR=coco     (or: python scripts/demo_mixed.py --coco_dir=coco)

The folder of real COCO pictures may be a whole release: a thousand pictures are drawn. Each step
is one of the ordinary commands, printed before it runs: prepare_data of each data set, contact
sheets, a short training on all four kinds of annotations, evaluation on people that were never
seen. Exit code 1 if the loss of some kind did not fall. Started again it continues: fixtures,
prepared data and a finished training are kept.
"""

import functools
import glob
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

from absl import flags

from metrabs_like.cli import app, kind_progress, train
from metrabs_like.cli.demo_steps import Clock, print_files, run_command
from metrabs_like.training.logs import LOG_NAME

NATIVE: dict[str, tuple[str, ...]] = {
    "agora3": ("--body_model=procedural",),
    "behave": ("--body_model=procedural",),
    "mads": (),
    "coco": (),
    "densepose_coco": ("--body_model=procedural",),
}
"""The data sets with fixtures, and the flags with which these are prepared."""

WriteNative = Callable[[str, str, int], None]
"""Writes a fixture: name of the data set, folder, number of pictures."""

_FOLDER = "demo_mixed"  # in the flagfile; --output_dir takes its place
_PHOTOS = "coco_photos"
_HELD_OUT_SEED = 1_000_003
_PEOPLE = (
    "--synthetic_image_side=160",
    "--synthetic_frontal_fraction=0.9",
    "--synthetic_truncation_fraction=0.1",
    "--synthetic_small_fraction=0.05",
    "--synthetic_occluder_fraction=0.05",
)
_LABELS = (
    "--synthetic_with_body_parameters",
    "--synthetic_n_surface_points=64",
    "--synthetic_with_masks",
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("output_dir", _FOLDER, "Folder for everything.", values)
    text = "Folder of real COCO pictures, annotations/ and train2017/ or such; left out if missing."
    flags.DEFINE_string("coco_dir", "", text, values)
    text = (
        "File in --coco_dir/annotations; empty takes the smallest person_keypoints_*.json whose "
        "pictures are there."
    )
    flags.DEFINE_string("coco_annotations", "", text, values)
    text = "Real COCO pictures at most, drawn at random; 0 takes all."
    flags.DEFINE_integer("n_coco", 1000, text, 0, flag_values=values)
    flags.DEFINE_string(
        "flagfile_of_run", "flags/metrabs/mixed_demo.flags", "The training experiment.", values
    )
    flags.DEFINE_integer("n_train", 3000, "Synthetic training images.", 1, flag_values=values)
    flags.DEFINE_integer("n_held_out", 500, "Synthetic held-out images.", 1, flag_values=values)
    flags.DEFINE_integer("n_native", 24, "Pictures of each fixture.", 1, flag_values=values)
    flags.DEFINE_integer("n_inspected", 24, "Crops on a contact sheet.", 1, flag_values=values)
    flags.DEFINE_list("train_flags", [], "More flags for training: name=value,...", values)


def run(values: flags.FlagValues, write_native: WriteNative) -> None:
    """Runs the demo.

    Args:
      values: the flags.
      write_native: writes the fixtures.

    Raises:
      ValueError: if a step fails (its own message stands above), or a loss did not fall.
    """
    output_dir = app.writable_folder(values.output_dir, "output_dir")
    clock = Clock()
    write_fixtures(output_dir, values.n_native, write_native)
    clock.lap("fixtures")
    _prepare(values, output_dir)
    clock.lap("data")
    experiment = [f"--flagfile={values.flagfile_of_run}"]
    experiment.append("--sources=" + ",".join(sources(values.flagfile_of_run, output_dir)))
    experiment += [f"--{flag}" for flag in values.train_flags]
    sheets, workdir = (os.path.join(output_dir, name) for name in ("contact_sheets", "run"))
    run_command(
        "inspect_data", *experiment, f"--n_images={values.n_inspected}", f"--output_dir={sheets}"
    )
    clock.lap("contact sheets")
    run_command("train", *experiment, f"--workdir={workdir}")
    clock.lap("training")
    held_out = os.path.join(output_dir, "held_out")
    run_command("evaluate", f"--model={workdir}", f"--dataset={held_out}")
    clock.lap("evaluation")
    progress = kind_progress.measure(os.path.join(workdir, LOG_NAME))
    print("\n" + kind_progress.table(progress))
    print_files(sheets, workdir, os.path.join(workdir, "evaluation"))
    print(f"\n{clock}")
    risen = [kind.name for kind in progress if not kind.fell]
    if risen:
        raise ValueError(f"the loss of {', '.join(risen)} did not fall: see {workdir}/curves.png")


def write_fixtures(output_dir: str, n_pictures: int, write_native: WriteNative) -> None:
    """Writes the fixtures that are missing, each in one piece.

    Args:
      output_dir: gets `native/<name>`.
      n_pictures: of each fixture.
      write_native: see `WriteNative`.
    """
    for name in NATIVE:
        folder = native_folder(output_dir, name)
        if os.path.isdir(folder):
            print(f"{folder}: is there and kept")
            continue
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        part = tempfile.mkdtemp(prefix=f".{name}-", dir=os.path.dirname(folder))
        write_native(name, part, n_pictures)
        os.rename(part, folder)
        print(f"{folder}: {n_pictures} pictures of synthetic people in the layout of {name}")


def native_folder(output_dir: str, name: str) -> str:
    """Returns where the fixture of a data set lies."""
    return os.path.join(output_dir, "native", name)


def sources(flagfile: str, output_dir: str) -> list[str]:
    """Returns the flagfile's sources, moved to `output_dir`; without the photographs if missing.

    Raises:
      ValueError: if the flagfile cannot be read.
    """
    values = app.parse(train.define_flags, ["train", f"--flagfile={flagfile}"])
    has_photos = os.path.isdir(prepared_folder(output_dir, _PHOTOS))
    return [
        text.replace(f":{_FOLDER}/", f":{output_dir}/", 1)
        for text in values.sources
        if has_photos or f"/{_PHOTOS}:" not in text
    ]


def coco_annotations(coco_dir: str) -> str:
    """Chooses the annotation file of a COCO folder, as one download brings several.

    Returns:
      Name of the smallest `person_keypoints_*.json` in `annotations/` whose folder of pictures is
      there: it is read soonest. Empty if there is none.
    """
    prefix, suffix = "person_keypoints_", ".json"
    paths = glob.glob(os.path.join(glob.escape(coco_dir), "annotations", f"{prefix}*{suffix}"))
    sizes = {}
    for path in paths:
        name = os.path.basename(path)
        pictures = name.removeprefix(prefix).removesuffix(suffix)
        if os.path.isdir(os.path.join(coco_dir, pictures)):
            sizes[name] = os.path.getsize(path)
    return min(sizes, key=lambda name: (sizes[name], name), default="")


def prepared_folder(output_dir: str, name: str) -> str:
    """Returns where the prepared data set lies."""
    return os.path.join(output_dir, "prepared", name)


def _prepare(values, output_dir):
    """Prepares the synthetic people, the fixtures and the photographs."""
    people = ("--dataset=synthetic", *_PEOPLE)
    run_command(
        "prepare_data",
        *people,
        *_LABELS,
        f"--synthetic_n_images={values.n_train}",
        f"--output_dir={prepared_folder(output_dir, 'synthetic')}",
    )
    run_command(
        "prepare_data",
        *people,
        f"--synthetic_n_images={values.n_held_out}",
        f"--synthetic_seed={_HELD_OUT_SEED}",
        f"--output_dir={os.path.join(output_dir, 'held_out')}",
    )
    folders = {name: (name, native_folder(output_dir, name), more) for name, more in NATIVE.items()}
    if os.path.isdir(values.coco_dir):
        annotations = values.coco_annotations or coco_annotations(values.coco_dir)
        more = ("--with_empty", f"--annotations={annotations}", f"--max_images={values.n_coco}")
        folders[_PHOTOS] = ("coco", values.coco_dir, more)
    else:
        given = f"--coco_dir={values.coco_dir} is missing" if values.coco_dir else "no --coco_dir"
        print(f"\n{given}: no real COCO pictures, the fixture alone")
    for name, (dataset, source_dir, more) in folders.items():
        run_command(
            "prepare_data",
            f"--dataset={dataset}",
            f"--source_dir={source_dir}",
            *more,
            "--n_processes=1",  # so few pictures are not worth the start of others
            f"--output_dir={prepared_folder(output_dir, name)}",
        )


def main(argv: Sequence[str] | None = None, *, write_native: WriteNative) -> int:
    """Runs the command; returns its exit code."""
    steps = functools.partial(run, write_native=write_native)
    return app.run_command(define_flags, steps, argv, __doc__)


if __name__ == "__main__":
    sys.exit("start scripts/demo_mixed.py: the fixtures are written by the checkout's tests")
