"""Prepares a data set: sharded TFRecord files and `dataset.json` in one folder.

  metrabs-like-prepare-data --dataset=synthetic --synthetic_n_images=20000 --output_dir=data/train
  metrabs-like-prepare-data --dataset=coco --source_dir=coco --output_dir=data/coco
  metrabs-like-prepare-data --dataset=custom --source_dir=mine --output_dir=data/mine

Started again with the same flags it continues at the first missing shard. `custom` is your own
data: docs/own_data.md shows the layout.
"""

import os
import sys

from absl import flags

from metrabs_like.cli import app, flag_bridge, prepared_report
from metrabs_like.data.preparation import write_dataset
from metrabs_like.data.readers import agora3, behave, coco, custom, densepose_coco, mads, synthetic
from metrabs_like.data.readers.coco_selection import SELECTIONS
from metrabs_like.data.reencoding import JPEG_QUALITY
from metrabs_like.data.synthetic import SyntheticConfig

# Data sets of files, with the flags that their readers take beside the source folder.
READERS = {
    "agora3": (agora3, ("split", "fits", "body_model", "jpeg_quality", "progress")),
    "behave": (behave, ("split", "fits", "body_model", "progress")),
    "coco": (
        coco,
        ("annotations", "min_joints", "selection", "with_empty", "max_images", "progress"),
    ),
    "custom": (custom, ("annotations", "skeleton", "name", "licence")),
    "densepose_coco": (
        densepose_coco,
        ("annotations", "uv_processed", "body_model", "selection", "progress"),
    ),
    "mads": (mads, ("progress",)),
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    names = ("synthetic", *READERS)
    flags.DEFINE_enum("dataset", "synthetic", names, "What to prepare.", values)
    text = "Folder of the original files (all but synthetic)."
    flags.DEFINE_string("source_dir", "", text, values)
    flags.DEFINE_string("output_dir", "", "Folder of the prepared data set.", values)
    flags.DEFINE_integer(
        "n_processes", 0, "Worker processes; 0 takes one per core.", 0, flag_values=values
    )
    text = "Annotation file (coco: empty takes the only one; custom: annotations.jsonl)."
    flags.DEFINE_string("annotations", "", text, values)
    text = "People with fewer labelled joints are left out (coco)."
    flags.DEFINE_integer("min_joints", 4, text, 1, flag_values=values)
    text = "Joint set: a name or a JSON file; empty takes skeleton.json there (custom)."
    flags.DEFINE_string("skeleton", "", text, values)
    flags.DEFINE_string("name", "custom", "Name of the data set (custom).", values)
    flags.DEFINE_string("licence", "", "What may be done with the data (custom).", values)
    _define_coco_flags(values)
    _define_body_flags(values)
    flags.DEFINE_bool("progress", True, "Show a bar while annotations are read.", values)
    flag_bridge.define_flags(SyntheticConfig, "synthetic", values)


def _define_coco_flags(values):
    """Flags of coco and densepose_coco."""
    text = "People to keep: all usable ones, or those of PosePile's sets (coco, densepose_coco)."
    flags.DEFINE_enum("selection", "all", SELECTIONS, text, values)
    text = "Keep pictures without people too, as backgrounds (coco)."
    flags.DEFINE_bool("with_empty", False, text, values)
    text = "Pictures at most, drawn at random; 0 takes all (coco)."
    flags.DEFINE_integer("max_images", 0, text, 0, flag_values=values)
    text = "UV_Processed.mat; empty takes UV_data/UV_Processed.mat there (densepose_coco)."
    flags.DEFINE_string("uv_processed", "", text, values)


def _define_body_flags(values):
    """Flags of the data sets with a body model."""
    text = "Whose mesh or parameters the files hold (agora3, behave, densepose_coco)."
    flags.DEFINE_enum("body_model", "smpl", densepose_coco.BODY_MODELS, text, values)
    text = "Part to read; empty takes train (agora3: or validation; behave: or test)."
    flags.DEFINE_string("split", "", text, values)
    flags.DEFINE_bool("fits", True, "Read body-model parameters too (agora3, behave).", values)
    text = "Of pictures that are stored anew (agora3)."
    flags.DEFINE_integer("jpeg_quality", JPEG_QUALITY, text, 1, 100, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Plans and writes the data set.

    Raises:
      ValueError: for a missing folder, unreadable sources, or another data set in `output_dir`.
    """
    app.require(values, "output_dir")
    info, tasks = plan(values)
    app.writable_folder(values.output_dir, "output_dir")
    info = write_dataset(tasks, values.output_dir, info, n_processes=values.n_processes or None)
    print("\n".join(prepared_report.lines(info, values.output_dir)))
    if info.skipped and not info.counts["n_images"]:
        name, reason = info.skipped[0]
        raise ValueError(
            f"--source_dir={values.source_dir}: no image can be used ({name}: {reason}); "
            f"mend them, delete {values.output_dir} and prepare again"
        )


def plan(values: flags.FlagValues):
    """Asks the reader for the data set's description and its tasks, one per shard.

    Raises:
      ValueError: if the source folder is missing or not what the reader expects.
    """
    if values.dataset == "synthetic":
        return synthetic.plan(flag_bridge.build(SyntheticConfig, "synthetic", values))
    app.require(values, "source_dir")
    if not os.path.isdir(values.source_dir):
        raise ValueError(f"--source_dir={values.source_dir} is no folder: name where the files are")
    reader, names = READERS[values.dataset]
    given = {name: values[name].value for name in names if values[name].value != ""}
    return reader.plan(values.source_dir, **given)


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
