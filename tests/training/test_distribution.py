"""Replicas on logical CPUs, in a process of their own: devices are fixed once TensorFlow starts."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from metrabs_like.training import distribution

REPO = pathlib.Path(__file__).parents[2]
IS_ADDONS_LANE = tf.__version__.startswith("2.15.")


def test_mirrored_gives_the_single_device_numbers():
    optimizers = ["adamw", "tfa.RectifiedAdam"] if IS_ADDONS_LANE else ["adamw"]
    environment = dict(os.environ, PYTHONPATH=str(REPO), TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, str(REPO / "tests/training/run_mirrored.py"), *optimizers]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["n_replicas"] == 2
    for optimizer in optimizers:
        assert results[f"{optimizer} step"] == 3
        assert results[f"{optimizer} k=1"] < 5e-6
        assert results[f"{optimizer} k=3"] < 5e-6
    error, n_replicas = results["moving"]
    assert n_replicas == 2 and error < 1e-6
    assert results["resumed"] == [12, True, True]


def test_multi_worker_without_a_cluster_says_what_to_set(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG is not set"):
        distribution.make_strategy("multi_worker")


def test_unknown_distribution_is_named():
    with pytest.raises(ValueError, match="'both'.*none, mirrored, multi_worker"):
        distribution.make_strategy("both")


def test_one_process_is_worker_0_with_one_replica():
    strategy = distribution.make_strategy("none")
    assert distribution.worker_index(strategy) == 0
    assert distribution.worker_seed(7, strategy) == 7
    assert distribution.n_local_replicas(strategy) == 1
