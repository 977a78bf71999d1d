"""The benchmarks of the detector run: at sizes that measure nothing, but through every row."""

import functools
import math

import pytest

from metrabs_like.systems.centernet import Config
from scripts.benchmarks import (
    centernet_decode,
    centernet_network,
    centernet_targets,
    deformable,
    input_pipeline,
    timing,
    whole_images,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Each call is timed once, at the smallest size."""
    once = {"warmup": 1, "repeats": 1}
    one_by_one = functools.partial(timing.median_seconds, **once)
    in_turns = functools.partial(timing.median_seconds_interleaved, **once)
    for module in (timing, centernet_network):
        monkeypatch.setattr(module, "median_seconds", one_by_one)
    for module in (timing, centernet_network, centernet_targets):
        monkeypatch.setattr(module, "median_seconds_interleaved", in_turns)
    cpu_seconds = functools.partial(input_pipeline._cpu_seconds, n_warm=1, n_rounds=1, n_batches=1)
    for module, name, value in (
        (centernet_decode, "_SIDE", 16),
        (centernet_decode, "_N_IMAGES", 2),
        (centernet_decode, "_TOP_K", 5),
        (centernet_network, "_SIDE", 64),
        (centernet_network, "_MAP_SIDE", 16),
        (centernet_network, "_NETWORKS", {"tiny": Config(backbone="tiny", head_width=4)}),
        (centernet_targets, "BATCH_SIZES", (2,)),
        (deformable, "_SIDE", 8),
        (deformable, "_CHANNELS", 4),
        (deformable, "_DLA34", {(4, 2, 8): 3}),
        (deformable, "_cpu_seconds", lambda call: 1.0),
        (deformable, "_measured_apart", lambda kind, way: 1.0),
        (whole_images, "_N_IMAGES", 2),
        (whole_images, "_BATCH", 1),
        (whole_images, "_cpu_seconds", cpu_seconds),
    ):
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, value)


def _check(rows, *, n_rows):
    """Every row has a name of its own and finite numbers."""
    rows = list(rows)
    assert len(rows) == len({row["name"] for row in rows}) == n_rows
    for row in rows:
        numbers = [value for value in row.values() if isinstance(value, (int, float))]
        assert numbers and all(math.isfinite(number) for number in numbers), row


def test_decoding_is_checked_against_its_baseline_and_timed():
    _check(centernet_decode.rows("cpu"), n_rows=5)


def test_targets_are_timed():
    _check(centernet_targets.rows("cpu"), n_rows=2)


def test_deformable_convolution_is_timed_in_each_way():
    _check(deformable.rows("cpu"), n_rows=2 * 3 + 2 + 2 * 3)


def test_whole_images_are_timed():
    _check(whole_images.rows("cpu"), n_rows=5)


def test_heads_and_networks_are_timed():
    rows = [centernet_network.heads_row()]
    for name, config in centernet_network._NETWORKS.items():
        model = centernet_network.build_model(config)
        call = centernet_network._graph(model, centernet_network._inputs())
        rows.append(centernet_network._row(name, call))
    _check(rows, n_rows=2)


@pytest.mark.slow
def test_all_networks_are_timed():
    _check(centernet_network.rows("cpu"), n_rows=1 + 1 + 3 + 1)
