"""Draws what the model sees of each source: a contact sheet of training crops with their points.

  metrabs-like-inspect-data --flagfile=flags/metrabs/demo.flags --output_dir=inspected

Takes the flags and flagfiles of the train command. Crops come out of the pipeline and the system's
preparation, augmentation included; valid joints are drawn with the skeleton's edges, points of the
body's surface as white dots. A detector's sheet shows whole images with boxes and joints.
"""

import os
import re
import sys

import numpy as np
import tensorflow as tf
from absl import flags

from metrabs_like.cli import app, contact_sheets, result_files, train
from metrabs_like.data import pipeline, records
from metrabs_like.data.sources import open_source

_N_SIZES = 100  # images whose size is looked at
# How each system's examples are shown.
_SHEETS = {"metrabs": contact_sheets.of_crops, "centernet": contact_sheets.of_images}


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
            skip_corrupt = run_.pipeline.skip_corrupt
            info = open_source(source, run_.model.joints, skip_corrupt=skip_corrupt)
            run_.module.check_source(source.kind, info, run_.model)
            _inspect(run_, source, info, index, values.n_images, folder)


def _inspect(run_, source, info, index, n_images, folder):
    """Draws the sheet of one source and prints a line for each thing to know about it."""
    title = f"source {index}: {source.kind} {info.name} ({source.path})"
    sheet, facts = _SHEETS[run_.system](run_, source, info, index, n_images, title)
    name = re.sub(r"[^\w.-]", "_", info.name)
    path = os.path.join(folder, f"contact_sheet_{index}_{source.kind}_{name}.png")
    result_files.write({path: result_files.png_bytes(sheet)})
    print(title)
    for fact in (*facts, f"images: {_image_sizes(source, info)}"):
        print(f"  {fact}")
    print(f"  {path}")


def _image_sizes(source, info):
    """Tells the range of sizes of the first images."""
    paths = info.shard_paths(source.path)
    sizes = set()
    for record in tf.data.TFRecordDataset(paths).take(_N_SIZES):
        parsed = records.parse_record(record, info.n_points)
        sizes.add((int(parsed["width"]), int(parsed["height"])))
    shown = [f"{width} x {height}" for width, height in sorted(sizes, key=np.prod)]
    return f"{' to '.join(dict.fromkeys([shown[0], shown[-1]]))} px (of the first {_N_SIZES})"


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
