"""A prepared data set and a trained run, as small as they can be, shared by the command tests."""

import shutil

import pytest

from metrabs_like.cli import prepare_data, train

TINY_MODEL = (
    "--metrabs_skeleton=smpl_24",
    "--metrabs_proc_side=64",
    "--metrabs_stride=16",
    "--metrabs_width=0.25",
    "--nometrabs_photometric",
)
TINY_RUN = (
    *TINY_MODEL,
    "--train_learning_rate=1e-3",
    "--train_log_every=1",
    "--data_shuffle_buffer=16",
)


def prepare(folder, n_images, seed=0):
    """Prepares synthetic people in this process; returns the folder as text."""
    code = prepare_data.main(
        [
            "prepare_data",
            f"--synthetic_n_images={n_images}",
            "--synthetic_images_per_shard=10",
            "--synthetic_image_side=64",
            f"--synthetic_seed={seed}",
            "--n_processes=1",
            f"--output_dir={folder}",
        ]
    )
    assert code == 0
    return str(folder)


def run_train(workdir, dataset, *more):
    """Trains the tiny model; returns the exit code."""
    return train.main(
        ["train", f"--workdir={workdir}", f"--sources=kp3d:{dataset}:4", *TINY_RUN, *more]
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """20 synthetic people."""
    return prepare(tmp_path_factory.mktemp("data") / "train", 20)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    """10 other ones."""
    return prepare(tmp_path_factory.mktemp("data") / "held_out", 10, seed=1)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, dataset):
    """The folder of a run of two updates; do not change it."""
    workdir = str(tmp_path_factory.mktemp("runs") / "finished")
    assert run_train(workdir, dataset, "--train_steps=2") == 0
    return workdir


@pytest.fixture
def own_run(finished_run, tmp_path):
    """A copy of that run which the test may damage."""
    return shutil.copytree(finished_run, tmp_path / "own_run")
