"""The whole way in one command: synthetic data, training, evaluation, export, prediction.

  make demo                  (or: python scripts/demo.py --output_dir=demo)
  make demo IMAGE=me.jpg     predicts that photograph instead of the astronaut

Each step is one of the ordinary commands, printed before it runs. Started again it continues:
prepared data and a finished training are kept.
"""

import json
import os
import sys

import cv2
import numpy as np
from absl import flags

from metrabs_like import skeletons, units
from metrabs_like.cli import app, export
from metrabs_like.cli.demo_steps import Clock, run_command
from metrabs_like.data.synthetic import SKELETON_NAME, SyntheticConfig, generate_shard

_HELD_OUT_SEED = 1_000_003
_RENDERED_SEED = 2_000_003
# A short training learns from people who mostly face the camera, few of them cut or hidden.
_PEOPLE = {
    "frontal_fraction": 0.9,
    "truncation_fraction": 0.1,
    "small_fraction": 0.05,
    "occluder_fraction": 0.05,
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("output_dir", "demo", "Folder for everything.", values)
    flags.DEFINE_string("image", "", "Photograph to predict; empty takes the astronaut.", values)
    flags.DEFINE_string(
        "flagfile_of_run", "flags/metrabs/demo.flags", "The training experiment.", values
    )
    flags.DEFINE_integer("n_train", 20_000, "Synthetic training images.", 1, flag_values=values)
    flags.DEFINE_integer("n_held_out", 2_000, "Synthetic held-out images.", 1, flag_values=values)
    flags.DEFINE_list("train_flags", [], "More flags for training: name=value,...", values)


def run(values: flags.FlagValues) -> None:
    """Runs the demo.

    Raises:
      ValueError: if a step fails (its own message stands above).
    """
    output_dir = app.writable_folder(values.output_dir, "output_dir")
    photograph = photograph_path(values.image, output_dir)
    paths = {name: os.path.join(output_dir, name) for name in ("train", "held_out", "run")}
    clock = Clock()
    for name, n_images, seed in (
        ("train", values.n_train, 0),
        ("held_out", values.n_held_out, _HELD_OUT_SEED),
    ):
        run_command(
            "prepare_data",
            "--dataset=synthetic",
            f"--synthetic_n_images={n_images}",
            f"--synthetic_seed={seed}",
            *(f"--synthetic_{name}={value}" for name, value in _PEOPLE.items()),
            f"--output_dir={paths[name]}",
        )
    clock.lap("data")
    run_command(
        "train",
        f"--flagfile={values.flagfile_of_run}",
        f"--sources=kp3d:{paths['train']}:32",
        f"--workdir={paths['run']}",
        *(f"--{flag}" for flag in values.train_flags),
    )
    clock.lap("training")
    run_command("evaluate", f"--model={paths['run']}", f"--dataset={paths['held_out']}")
    clock.lap("evaluation")
    exported = os.path.join(output_dir, "exported")
    run_command("export", f"--model={paths['run']}", f"--output_dir={exported}")
    clock.lap("export")
    saved_model = os.path.join(exported, export.SAVED_MODEL)
    error = predict_rendered(saved_model, os.path.join(output_dir, "rendered"))
    predict_photograph(saved_model, photograph, os.path.join(output_dir, "photograph"))
    clock.lap("prediction")
    _print_end(output_dir, error, clock)


def photograph_path(image: str, output_dir: str) -> str:
    """Returns the photograph to predict; without a name, scikit-image's astronaut as a PNG.

    Raises:
      ValueError: if there is no such file, or scikit-image is not installed.
    """
    if image:
        if not os.path.isfile(image):
            raise ValueError(f"--image={image} is no file: name a JPEG or PNG")
        return image
    try:
        import skimage
    except ImportError as error:
        raise ValueError(
            "the astronaut comes with scikit-image: pip install scikit-image, "
            "or name a photograph with --image"
        ) from error
    path = os.path.join(output_dir, "astronaut.png")
    cv2.imwrite(path, cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR))
    return path


def predict_rendered(saved_model: str, output_dir: str) -> dict:
    """Renders a person that was never seen, predicts it and compares with the truth.

    Args:
      saved_model: folder of the exported model.
      output_dir: receives the image, the truth and the prediction.

    Returns:
      `mpjpe_mm` (root-relative), `absolute_error_mm`, `true_distance_m`, `predicted_distance_m`.
    """
    config = SyntheticConfig(
        n_images=1,
        image_side=512,
        seed=_RENDERED_SEED,
        distortion_fraction=0.0,
        truncation_fraction=0.0,
        occluder_fraction=0.0,
        small_fraction=0.0,
    )
    record = next(iter(generate_shard(config, 0)))
    person = record.people[0]
    os.makedirs(output_dir, exist_ok=True)
    image = os.path.join(output_dir, "rendered.jpg")
    with open(image, "wb") as file:
        file.write(record.image_bytes)
    k = record.intrinsics
    run_command(
        "predict",
        f"--model={saved_model}",
        f"--image={image}",
        f"--output_dir={output_dir}",
        "--boxes=" + ",".join(f"{value:.2f}" for value in person.box),
        "--intrinsics=" + ",".join(f"{v:.4f}" for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2])),
    )
    return compare(os.path.join(output_dir, "rendered_poses.json"), person.points3d)


def compare(prediction_file: str, points3d_true: np.ndarray) -> dict:
    """Compares the first predicted person of a file with the truth.

    Args:
      prediction_file: JSON of `metrabs-like-predict`.
      points3d_true: `[P, 3]`, m, camera frame, of the synthetic people's skeleton.

    Returns:
      See `predict_rendered`.
    """
    with open(prediction_file) as file:
        content = json.load(file)
    predicted = np.array(content["people"][0]["joints3d_mm"])
    parts = skeletons.components(skeletons.get(SKELETON_NAME))
    true = points3d_true[list(parts[content["skeleton"]])] * units.MM_PER_M
    relative = (predicted - predicted.mean(axis=0)) - (true - true.mean(axis=0))
    return {
        "mpjpe_mm": float(np.linalg.norm(relative, axis=-1).mean()),
        "absolute_error_mm": float(np.linalg.norm(predicted - true, axis=-1).mean()),
        "true_distance_m": float(true[:, 2].mean() / units.MM_PER_M),
        "predicted_distance_m": float(predicted[:, 2].mean() / units.MM_PER_M),
    }


def predict_photograph(saved_model: str, photograph: str, output_dir: str) -> None:
    """Predicts the photograph; its whole area counts as one person."""
    run_command(
        "predict",
        f"--model={saved_model}",
        f"--image={photograph}",
        f"--output_dir={output_dir}",
        "--detector=none",
    )


def _print_end(output_dir, error, clock):
    print("\nrendered person, truth known:")
    for key, value in error.items():
        print(f"  {key:22}{value:10.2f}")
    print("\npictures and numbers:")
    wanted = (".png", ".jpg", ".json")
    for folder in ("rendered", "photograph", "run", os.path.join("run", "evaluation")):
        for name in sorted(os.listdir(os.path.join(output_dir, folder))):
            if name.endswith(wanted):
                print(f"  {os.path.join(output_dir, folder, name)}")
    print(f"\n{clock}")


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
