"""Replicas on logical CPUs, in a process of their own: devices are fixed once TensorFlow starts."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from metrabs_like.training import distribution

REPO = pathlib.Path(__file__).parents[2]
IS_ADDONS_LANE = tf.__version__.startswith("2.15.")


def results_of(script, *arguments):
    """Runs a script of this folder, which prints one JSON line."""
    environment = dict(os.environ, PYTHONPATH=str(REPO), TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, str(REPO / "tests/training" / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_mirrored_gives_the_single_device_numbers():
    optimizers = ["adamw", "tfa.RectifiedAdam"] if IS_ADDONS_LANE else ["adamw"]
    results = results_of("run_mirrored.py", *optimizers)
    assert results["n_replicas"] == 2
    for optimizer in optimizers:
        assert results[f"{optimizer} step"] == 3
        assert results[f"{optimizer} k=1"] < 5e-6
        assert results[f"{optimizer} k=3"] < 5e-6
    error, n_replicas = results["moving"]
    assert n_replicas == 2 and error < 1e-6
    assert results["resumed"] == [12, True, True]


def test_metrabs_in_parts_and_mirrored_gives_the_single_device_numbers():
    """Real network, both annotation kinds, people with all and with few valid points."""
    results = results_of("run_mirrored_metrabs.py")
    assert results["n_replicas"] == 2
    assert {"loss", "grad_norm", "kp3d/loss3d_abs", "kp2d/loss2d", "dense/loss2d"} <= set(
        results["terms"]
    )
    for name in ("k=2", "mirrored"):
        logs, weights = results[name]
        assert logs < 1e-4 and weights < 1e-4, name


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
def test_two_workers_agree_and_resume_together(tmp_path):
    def run(steps):
        cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
        workers = []
        for i in range(2):
            task = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
            environment = dict(os.environ, PYTHONPATH=str(REPO), TF_CONFIG=task)
            script = str(REPO / "tests/training/run_toy.py")
            command = [sys.executable, script, str(tmp_path), str(steps)]
            command += ["distribution=multi_worker", "checkpoint_every=5", f"data_seed={3 + i}"]
            workers.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            )
        outputs = [worker.communicate(timeout=300) for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], outputs[0][1][-2000:]
        return [re.search(r"resumed_from=\d+.*'loss': [\d.]+", o.decode())[0] for o, _ in outputs]

    first, second = run(7)
    assert first == second and first.startswith("resumed_from=0,")
    first, second = run(12)
    assert first == second and first.startswith("resumed_from=7,")


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
