"""Draws what the model sees of each source: a contact sheet of training crops with their points.

  metrabs-like-inspect-data --flagfile=flags/metrabs/demo.flags --output_dir=inspected

Takes the flags and flagfiles of the train command. Crops come out of the pipeline and the system's
preparation, augmentation included; valid joints are drawn with the skeleton's edges, points of the
body's surface as white dots.
"""

import dataclasses
import os
import re
import sys

import cv2
import numpy as np
import tensorflow as tf
from absl import flags

from metrabs_like.cli import app, train
from metrabs_like.data import pipeline, records
from metrabs_like.data.sources import open_source
from metrabs_like.viz import palette
from metrabs_like.viz.contact_sheet import draw_contact_sheet

_N_SIZES = 100  # images whose size is looked at


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags: those of train, and its own."""
    train.define_flags(values)
    flags.DEFINE_string("output_dir", "", "Folder of the contact sheets.", values)
    text = "Crops on each sheet, or as many as the source has people."
    flags.DEFINE_integer("n_images", 32, text, 1, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Draws the sheets and prints what is in the sources.

    Raises:
      ValueError: for settings or sources that cannot be used.
    """
    app.require(values, "sources", "output_dir")
    run_ = train.build_run(values)
    sources = [pipeline.parse_source(text) for text in run_.sources]
    folder = app.writable_folder(values.output_dir, "output_dir")
    for index, source in enumerate(sources):
        with app.plain_warnings(), pipeline.damage_named([source.path]):
            _inspect(run_, source, index, values.n_images, folder)


def _inspect(run_, source, index, n_images, folder):
    """Draws the sheet of one source and prints a line for each thing to know about it."""
    info = open_source(source, run_.model.joints, skip_corrupt=run_.pipeline.skip_corrupt)
    run_.module.check_source(source.kind, info, run_.model)
    n_people = info.n_usable(source.kind)
    images, points, validity = _prepared_crops(run_, source, min(n_images, max(n_people, 1)), index)
    settings = run_.pipeline.probabilities(source)
    changes = ", ".join(f"{name} {share:g}" for name, share in settings.items() if share > 0)
    facts = [
        f"{n_people} people in {info.counts['n_images']} images",
        f"{source.count} in every batch",
        f"changes asked for: {changes or 'none'}",
    ]
    title = f"source {index}: {source.kind} {info.name} ({source.path})"
    joints = run_.model.joints
    n_others = validity.shape[1] - joints.n_joints
    sheet = draw_contact_sheet(
        images,
        points,
        validity,
        f"{title}: {'; '.join(facts)}",
        edges=joints.edges,
        sides=palette.joint_sides(joints) + ("middle",) * n_others,
    )
    name = re.sub(r"[^\w.-]", "_", info.name)
    path = os.path.join(folder, f"contact_sheet_{index}_{source.kind}_{name}.png")
    _save(path, sheet)
    print(title)
    for fact in (*facts, f"images: {_image_sizes(source, info)}", _validity_text(validity, joints)):
        print(f"  {fact}")
    print(f"  {path}")


def _prepared_crops(run_, source, n_images, index):
    """Returns crops as the model gets them, points in them `[N, P, 2]` and their validity."""
    one = dataclasses.replace(source, count=n_images)
    dataset = pipeline.make_train_dataset(
        [one], run_.pipeline, skeleton=run_.model.joints, seed=run_.train.seed
    )
    batch = next(iter(dataset))
    seed = tf.constant([run_.train.seed % 2**31, index], tf.int32)
    inputs, targets = run_.module.prepare(batch, run_.model, seed)
    labels = targets[source.kind]
    names = ("coords2d_true", "point_validity")
    return inputs["image"].numpy(), *(labels[name].numpy() for name in names)


def _image_sizes(source, info):
    """Tells the range of sizes of the first images."""
    paths = info.shard_paths(source.path)
    sizes = set()
    for record in tf.data.TFRecordDataset(paths).take(_N_SIZES):
        parsed = records.parse_record(record, info.n_points)
        sizes.add((int(parsed["width"]), int(parsed["height"])))
    shown = [f"{width} x {height}" for width, height in sorted(sizes, key=np.prod)]
    return f"{' to '.join(dict.fromkeys([shown[0], shown[-1]]))} px (of the first {_N_SIZES})"


def _validity_text(validity, joints):
    """Tells which share of the crops' points is annotated; those after the joints are surface."""
    parts = {"joints": validity[:, : joints.n_joints], "surface": validity[:, joints.n_joints :]}
    shares = [f"{np.mean(v):.1%} of {v.shape[1]} {name}" for name, v in parts.items() if v.size]
    return f"valid points: {', '.join(shares)}"


def _save(path, sheet):
    """Writes a PNG in one piece."""
    with app.replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))[1].tobytes())


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
