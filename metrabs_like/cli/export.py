"""Exports a trained model for use without this package.

  metrabs-like-export --model=runs/demo --output_dir=exported

Writes `exported/saved_model` (`tf.saved_model.load` is all it needs), `exported/model.keras` (the
network alone) and `exported/config.json`. The SavedModel takes whole photographs: that of metrabs
has `estimate_poses` and `estimate_poses_batched`, the crop predictor and a TF Serving signature,
that of a detector (centernet) has `detect`.
"""

import os
import sys

from absl import flags

from metrabs_like.cli import app, models

SAVED_MODEL = "saved_model"
KERAS_FILE = "model.keras"
CONFIG_FILE = "config.json"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("model", "", "A run's folder, a preset's folder or a preset.", values)
    flags.DEFINE_string("output_dir", "", "Folder to write into.", values)


def run(values: flags.FlagValues) -> None:
    """Exports.

    Raises:
      ValueError: for a model that is missing or damaged, or a folder that cannot be written.
    """
    from metrabs_like import serving

    app.require(values, "model", "output_dir")
    output_dir = app.writable_folder(values.output_dir, "output_dir")
    trained = models.load(values.model)
    saved_model = os.path.join(output_dir, SAVED_MODEL)
    serving.save(trained.predictor(), saved_model)
    with app.replacing(os.path.join(output_dir, KERAS_FILE)) as temporary:
        trained.model.save(temporary)
    with (
        app.replacing(os.path.join(output_dir, CONFIG_FILE)) as temporary,
        open(temporary, "w") as file,
    ):
        file.write(trained.config.to_json() + "\n")
    for name in (SAVED_MODEL, KERAS_FILE, CONFIG_FILE):
        print(f"written: {os.path.join(output_dir, name)}")
    print(f"predict with: metrabs-like-predict --model={saved_model} --image=FILE --output_dir=DIR")


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
