"""One million prepared annotations: time to the first batch, memory, and how fast they are listed.

Half a million records of 16 x 16 px with two people each are written (a gigabyte in a temporary
folder, from a few different ones, since only their number matters here) and read in a fresh
process. The page cache is warm: a disk of 150 MB/s adds 7 s a gigabyte where everything is read.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
IS_LONG = True
N_RECORDS = 500_000
_N_SHARDS = 16
_N_VARIANTS = 64
_PREPARED_TARGET = ">= 150 000"


def rows(device: str) -> list[dict]:
    """Measures the rows of this benchmark.

    Args:
      device: ignored, all of it is host work.

    Returns:
      Rows with name and value, some with a target.
    """
    del device
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        n_bytes = write(folder)
        written = time.perf_counter() - start
        command = [sys.executable, __file__, folder]
        result = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        measured = json.loads(result.stdout.splitlines()[-1])
        again = _prepare_again(folder)
    per_second = ("listed people/s", "read_people/s", "parsed people/s")
    return [
        {"name": "1 M annotations: written, s", "value": written},
        {"name": "1 M annotations: size, MB", "value": n_bytes / 1e6},
        *({"name": f"1 M annotations: {name}", "value": value}
          | ({"target": _PREPARED_TARGET} if name in per_second else {})
          for name, value in measured.items()),
        {"name": "1 M annotations: write_dataset on the complete folder, s", "value": again},
    ]  # fmt: skip


def write(folder) -> int:
    """Writes the data set; returns its size in bytes."""
    import tensorflow as tf

    from metrabs_like.data import dataset_info, preparation, records
    from scripts.benchmarks import mixed_data

    with tempfile.TemporaryDirectory() as few:
        info = _prepared_few(few, mixed_data)
        variants = list(tf.data.TFRecordDataset(info.shard_paths(few)).as_numpy_iterator())
    shards = []
    for index in range(_N_SHARDS):
        path = os.path.join(folder, preparation.shard_name(index, _N_SHARDS))
        n_images = N_RECORDS // _N_SHARDS  # of two people each
        with tf.io.TFRecordWriter(path) as writer:
            for i in range(n_images):
                writer.write(variants[i % len(variants)])
        shard = {
            "index": index,
            "file": os.path.basename(path),
            "n_bytes": os.path.getsize(path),
            "sha256": dataset_info.sha256_of_file(path),
            "skipped": [],
            "n_images": n_images,
        }
        counts = {name: 2 * n_images for name in info.counts if name.startswith("n_people")}
        shards.append({**shard, **counts, "n_skipped": 0})
    counts = {name: sum(shard[name] for shard in shards) for name in info.counts}
    complete = dataclasses.replace(info, counts=counts, shards=shards)
    complete.save(folder)
    n_people = 2 * (N_RECORDS // _N_SHARDS) * _N_SHARDS
    assert records.DatasetInfo.load(folder).counts["n_people"] == n_people
    return sum(shard["n_bytes"] for shard in shards)


def _prepared_few(folder, mixed_data):
    """Writes records of two people without masks and surface points."""
    from metrabs_like.data import preparation, records
    from metrabs_like.skeletons import SMPL_24

    info = records.DatasetInfo(name="million", kind="kp3d", skeleton=SMPL_24.to_dict())
    task = functools.partial(mixed_data.small_records, _N_VARIANTS)
    return preparation.write_dataset([task], folder, info, n_processes=1, progress=False)


def _prepare_again(folder):
    """Times `write_dataset`, which finds that nothing is left to do."""
    from metrabs_like.data import preparation, records

    info = records.DatasetInfo.load(folder)
    start = time.perf_counter()
    preparation.write_dataset([None] * _N_SHARDS, folder, info, progress=False)
    return time.perf_counter() - start


def _measure(folder):
    """Measures in this fresh process; returns name -> value."""
    import tensorflow as tf

    from metrabs_like.data import mixing, pipeline, records
    from metrabs_like.skeletons import SMPL_24

    list(tf.data.Dataset.range(2))  # what TensorFlow itself needs is not ours
    before = _peak_mb()
    start = time.perf_counter()
    config = pipeline.PipelineConfig(proc_side=64)
    source = pipeline.SourceConfig(folder, "kp3d", 64)
    dataset = pipeline.make_train_dataset([source], config, skeleton=SMPL_24, seed=0)
    iterator = iter(dataset)
    next(iterator)
    found = {"first batch, s": time.perf_counter() - start}
    for _ in range(100):
        next(iterator)
    found |= {"peak memory before, MB": before, "peak memory after 100 batches, MB": _peak_mb()}
    del iterator
    info = records.DatasetInfo.load(folder)
    serialized = tf.data.TFRecordDataset(info.shard_paths(folder), buffer_size=1 << 20).batch(1024)

    def listed(batch):
        return tf.size(records.parse_usable_people(batch, "kp3d", info.n_points)[1])

    def parsed(batch, person):
        people = records.parse_person_batch(batch, person, info.n_points)
        return tf.shape(people["points3d"])[0]

    people = mixing.read_people(folder, info, "kp3d").batch(1024)
    n_people = info.counts["n_people"]
    found["listed people/s"] = _rate(serialized.map(listed, 2), n_people)
    found["read_people/s"] = _rate(people.map(lambda batch, person: tf.size(person)), n_people)
    found["parsed people/s"] = _rate(people.map(parsed, 2), n_people)
    return found


def _rate(counts, expected):
    """Counts per second of a data set of counts, whose sum is known."""
    start = time.perf_counter()
    total = int(counts.reduce(0, lambda total, count: total + count))
    if total != expected:
        raise ValueError(f"{total} people were read of {expected}")
    return total / (time.perf_counter() - start)


def _peak_mb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1])))
