"""Converts a checkpoint of the original CenterNet (PyTorch) into a folder that all commands read.

  metrabs-like-convert-weights --input=multi_pose_dla_3x.pth --output_dir=models/dla34_3x

PyTorch need not be installed, and code in the file is refused, not run. The folder is named to the
other commands like a shipped model: `metrabs-like-predict --system=centernet --model=FOLDER`.
"""

import sys

from absl import flags

from metrabs_like.cli import app


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    text = "PyTorch file: a multi_pose checkpoint of DLA-34 (.pth)."
    flags.DEFINE_string("input", "", text, values)
    flags.DEFINE_string("output_dir", "", "Folder to write into.", values)
    flags.DEFINE_string("skeleton", "coco_17", "Joint set of the checkpoint.", values)


def run(values: flags.FlagValues) -> None:
    """Converts, and reports what the file held.

    Raises:
      ValueError: for a file that is missing, refused, or of another network (entries are named), or
        a folder that cannot be written.
    """
    from metrabs_like.systems.centernet import checkpoint, save_preset

    app.require(values, "input", "output_dir")
    app.writable_folder(values.output_dir, "output_dir")
    model, config, report = checkpoint.load_checkpoint(values.input, skeleton=values.skeleton)
    save_preset(values.output_dir, model, config)
    print("\n".join([f"{values.input}:", *(f"  {line}" for line in report.lines())]))
    heads = ", ".join(f"{name} ({n})" for name, n in config.heads.items())
    kind = "deformable" if config.deformable else "plain"
    print(f"network: {config.backbone}, {kind} up-sampling, heads {heads}")
    print(f"written: {values.output_dir}")


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
