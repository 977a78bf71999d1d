"""The benchmarks of mixed data run: at sizes that measure nothing, but through every step."""

import json
import math
import os
import subprocess

import pytest

from scripts.benchmarks import million_annotations, mixed_data, mixed_pipeline

SIZE, PERSON_PX = (48, 64), (20, 40)
# Each kind costs seconds of tracing for each of many pipelines.
ONE_KIND = {"dense": 2}


@pytest.fixture
def tiny(monkeypatch):
    """All sizes as small as they can be, and nobody waits for a quiet machine."""
    for module, name, value in (
        (mixed_data, "_N_IMAGES", 4),
        (mixed_data, "_N_SURFACE", 5),
        (mixed_pipeline, "_PICTURES", dict.fromkeys(("small", "large"), (SIZE, PERSON_PX))),
        (mixed_pipeline, "_MIXES", mixed_pipeline._MIXES[-1:]),
        (mixed_pipeline, "_ROUNDS", 2),
        (mixed_pipeline, "COUNTS", ONE_KIND),
        (mixed_pipeline, "BATCH", 2),
        (mixed_pipeline, "_settle", lambda: None),
        (million_annotations, "N_RECORDS", 200),
        (million_annotations, "_N_SHARDS", 2),
        (million_annotations, "_N_VARIANTS", 3),
    ):
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def in_process(monkeypatch):
    """The child processes' work is done here: they would start TensorFlow anew."""
    commands = []

    def run(command, **options):
        del options
        commands.append(command)
        if len(command) == 3:
            found = million_annotations._measure(command[2])
        else:
            found = mixed_pipeline._rates(command[4:6], int(command[3]), n_batches=1)
        return subprocess.CompletedProcess(command, 0, stdout=f"a line\n{json.dumps(found)}\n")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def folders(tiny, tmp_path):
    folder = mixed_data.write_people(str(tmp_path / "people"), SIZE, PERSON_PX)
    return (folder, folder)


def _check(rows, *, n_rows):
    """Every row has a name of its own and finite numbers."""
    assert len(rows) == len({row["name"] for row in rows}) == n_rows
    for row in rows:
        numbers = [value for value in row.values() if isinstance(value, (int, float))]
        assert numbers and all(math.isfinite(number) for number in numbers), row


def test_steps_of_the_pipeline_are_timed_in_turns(folders):
    steps = mixed_pipeline._steps(folders)
    assert len(steps) == 8
    # The others are parts of these two, and of what is timed in the next test.
    names = ("parse masks, choose pictures", "decode masks")
    seconds = mixed_pipeline._compared([steps[name]() for name in names])
    assert seconds.shape == (2, 2) and (seconds > 0).all()


def test_hashing_is_timed(folders):
    _check([mixed_pipeline._hash_row(folders[0])], n_rows=1)


def test_rates_come_from_a_process_of_so_many_cores(folders, in_process):
    (row,) = mixed_pipeline._core_rows("tiny", folders, 1)
    _check([row], n_rows=1)
    assert row["examples_per_second"] > 0 and row["baseline_per_second"] > 0
    assert in_process == [[*in_process[0][:2], "1", "2", *folders]]


def test_annotations_are_counted_listed_and_read(tiny, in_process):
    rows = million_annotations.rows("cpu")
    _check(rows, n_rows=9)
    rates = [row["value"] for row in rows if row["name"].endswith("people/s")]
    assert len(rates) == 3 and min(rates) > 0


def test_people_that_are_missing_are_noticed(tiny, tmp_path):
    million_annotations.write(str(tmp_path))
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    assert content["counts"]["n_people"] == 400
    content["counts"]["n_people"] = 402
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="400 people were read of 402"):
        million_annotations._measure(str(tmp_path))


@pytest.mark.slow
def test_all_rows_with_their_processes(tiny, monkeypatch):
    counts = {"param": 1, "kp3d": 2, "dense": 1, "kp2d": 2}
    assert counts.keys() == {"param", "kp3d", "dense", "kp2d"}
    monkeypatch.setattr(mixed_pipeline, "COUNTS", counts)
    monkeypatch.setattr(mixed_pipeline, "BATCH", sum(counts.values()))
    rows = list(mixed_pipeline.rows("cpu"))
    _check(rows, n_rows=1 + 2 + 2 + 8 + len({1, os.cpu_count()}))
    assert all(row["ratio"] > 0 for row in rows if "ratio" in row)
    assert sum(row["share"] for row in rows if "share" in row) == pytest.approx(1)
    _check(million_annotations.rows("cpu"), n_rows=9)
