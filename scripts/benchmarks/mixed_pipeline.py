"""The mixed pipeline's host part, every augmentation on, against decoding the windows alone.

A batch has 8 param, 24 kp3d, 8 dense and 24 kp2d examples, crops of 256 px, all with masks,
backgrounds and objects. The baseline decodes the very same windows with the same JPEG operation in
a minimal `map` and does nothing else: no reading, shrinking, masks, labels or batches.

Ratios are of CPU time, both sides in turns in one process, and a turn ends when the pipeline has
filled its buffers again: they hold on a busy machine too. Examples a second are wall time, in child
processes bound to one and to two cores: they need a quiet machine. The shares come from pipelines
that are cut off after each step; a step's share is the difference to the one before.
"""

import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = {"param": 8, "kp3d": 24, "dense": 8, "kp2d": 24}
BATCH = sum(COUNTS.values())
PROBABILITIES = {
    "partial": 0.3,
    "full_rotation": 0.1,
    "shapes": 0.3,
    "objects": 0.3,
    "background": 0.7,
    "colour": 1.0,
    "blur": 0.3,
    "jpeg": 0.3,
}
# folder: (height, width) of the pictures, (lowest, highest) height of a person, px
_PICTURES = {"small": ((480, 640), (100, 400)), "large": ((1080, 1920), (250, 900))}
# (name, folder of param and kp3d, folder of dense and kp2d)
_MIXES = (
    ("640x480", "small", "small"),
    ("1920x1080", "large", "large"),
    ("half 1920x1080, half 640x480", "large", "small"),
)
_ROUNDS = 7


def rows(device: str) -> Iterator[dict]:
    """Measures the rows of this benchmark.

    Args:
      device: ignored, all of it is host work.

    Yields:
      Rows with name, seconds (CPU time an example), baseline_seconds, ratio and target; rates
      (`examples_per_second`); the steps' `share`.
    """
    del device
    from scripts.benchmarks import mixed_data

    with tempfile.TemporaryDirectory() as folder:
        for pictures, (size, person_px) in _PICTURES.items():
            mixed_data.write_people(f"{folder}/{pictures}", size, person_px)
        yield _hash_row(f"{folder}/large")
        for name, first, second in _MIXES:
            folders = (f"{folder}/{first}", f"{folder}/{second}")
            yield from _ratio_rows(name, folders, linear_light=False)
        yield from _ratio_rows(f"{name}, linear light", folders, linear_light=True)
        yield from _share_rows(name, folders)
        for n_cores in sorted({1, os.cpu_count() or 1}):
            yield from _core_rows(name, folders, n_cores)


def _ratio_rows(name, folders, linear_light):
    """Compares the whole host part with the baseline."""
    host, baseline, shrinking = _compared(
        [
            _batches(folders, linear_light=linear_light),
            _windows(folders, linear_light, is_shrunk=False),
            _windows(folders, linear_light, is_shrunk=True),
        ]
    )
    ratio = float(np.median(baseline / host))
    common = {"seconds": float(np.median(host)), "target": None if linear_light else ">= 0.6"}
    return [
        {
            "name": f"{name}: host part against window decode only",
            **common,
            "baseline_seconds": float(np.median(baseline)),
            "ratio": ratio,
        },
        {
            "name": f"{name}: the same, the baseline shrinks windows too",
            **common,
            "baseline_seconds": float(np.median(shrinking)),
            "ratio": float(np.median(shrinking / host)),
            "target": None,
        },
    ]


def _share_rows(name, folders):
    """Measures where the time goes, by cutting the pipeline off after each step."""
    steps = _steps(folders)
    seconds = [np.median(times) for times in _compared([make() for make in steps.values()])]
    shares = np.diff([0.0, *seconds])
    return [
        {"name": f"{name}: {step}", "seconds": float(s), "share": float(s / seconds[-1])}
        for step, s in zip(steps, shares, strict=True)
    ]


def _core_rows(name, folders, n_cores):
    """Wall-time rates in a child process that is bound to some cores."""
    result = subprocess.run(
        [sys.executable, __file__, str(n_cores), str(_ROUNDS), *folders],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    host, baseline = json.loads(result.stdout.splitlines()[-1])
    return [
        {
            "name": f"{name}: wall time, {n_cores} core(s) and as many threads",
            "examples_per_second": host,
            "baseline_per_second": baseline,
            "ratio": host / baseline,
            "load_average": os.getloadavg()[0],
        }
    ]


def _hash_row(folder):
    """What --data_skip_corrupt adds to the start: it reads every byte once."""
    content = b"".join(path.read_bytes() for path in pathlib.Path(folder).glob("*.tfrecord"))
    times = []
    for _ in range(5):
        start = time.process_time()
        hashlib.sha256(content).digest()
        times.append(time.process_time() - start)
    return {
        "name": "SHA-256, one core, MB/s",
        "value": len(content) / 1e6 / float(np.median(times)),
    }


def _compared(iterators):
    """Returns CPU seconds an example, `[rounds]` for each iterator of batches, in turns."""
    for iterator in iterators:
        _cpu_seconds(iterator)
    turns = [[_cpu_seconds(iterator) for iterator in iterators] for _ in range(_ROUNDS)]
    return np.array(turns).T


def _cpu_seconds(iterator, n_batches=4):
    """CPU time of the process an example, buffers full before and after."""
    _settle()
    start = time.process_time()
    for _ in range(n_batches):
        next(iterator)
    _settle()
    return (time.process_time() - start) / (n_batches * BATCH)


def _settle():
    """Waits until no thread computes ahead any more."""
    n_quiet, before = 0, time.process_time()
    while n_quiet < 8:  # a busy machine lets threads wait for their turn
        time.sleep(0.03)
        now = time.process_time()
        n_quiet = n_quiet + 1 if now - before < 0.002 else 0
        before = now


def _config(linear_light=False):
    from metrabs_like.data import pipeline

    changes = {f"{name}_probability": value for name, value in PROBABILITIES.items()}
    n_calls = len(os.sched_getaffinity(0))
    return pipeline.PipelineConfig(
        proc_side=256, n_parallel_calls=n_calls, linear_light=linear_light, **changes
    )


def _sources(folders):
    from metrabs_like.data import pipeline

    return [
        pipeline.SourceConfig(folders[kind in ("dense", "kp2d")], kind, n)
        for kind, n in COUNTS.items()
    ]


def _batches(folders, *, linear_light=False):
    """The pipeline as training uses it."""
    from metrabs_like.data import pipeline
    from metrabs_like.skeletons import SMPL_24

    config = _config(linear_light)
    return iter(pipeline.make_train_dataset(_sources(folders), config, skeleton=SMPL_24, seed=0))


def _planned(folders, with_companions=True, linear_light=False):
    """Yields (source, its planned batches, companions), as the pipeline makes them."""
    from metrabs_like.data import companions, pipeline
    from metrabs_like.skeletons import SMPL_24

    config, sources = _config(linear_light), _sources(folders)
    usual = pipeline.PipelineConfig(proc_side=256)
    added = companions.Companions(
        config if with_companions else usual,
        [config.probabilities(s) if with_companions else {"colour": 1.0} for s in sources],
    )
    for index, source in enumerate(sources):
        planned = pipeline._planned_source(source, index, config, SMPL_24, 0, added)
        yield source, planned, added


def _windows(folders, linear_light, is_shrunk):
    """The baseline: windows planned beforehand, in memory, decoded and counted."""
    import tensorflow as tf

    n_batches = 4
    names = ("image_bytes", "decoder", "part", "part_size")
    found = {name: [] for name in names}
    for _, planned, _ in _planned(folders, with_companions=False, linear_light=linear_light):
        for batch in planned.take(n_batches):
            for name in names:
                found[name].append(batch[name])
    held = {name: tf.concat(parts, axis=0) for name, parts in found.items()}
    dataset = tf.data.Dataset.from_tensor_slices(held).shuffle(BATCH * n_batches, seed=0).repeat()
    dataset = dataset.map(
        lambda example: tf.size(_decoded(example, linear_light, is_shrunk)),
        num_parallel_calls=len(os.sched_getaffinity(0)),
        deterministic=True,
    )
    return _iterated(dataset.batch(BATCH))


def _decoded(example, linear_light=False, is_shrunk=True):
    """Decodes a window; `is_shrunk` says whether what is too large is made smaller."""
    import tensorflow as tf

    from metrabs_like.data import cropping

    size = example["part_size"] if is_shrunk else example["part"][2:]
    return cropping.decode_window(
        example["image_bytes"],
        example["decoder"],
        tf.ensure_shape(example["part"], [4]),
        size,
        True,
        linear_light=linear_light,
    )


def _steps(folders):
    """Names the steps, each with a function that makes the pipeline up to there."""
    import tensorflow as tf

    from metrabs_like.data import mixing
    from metrabs_like.data.dataset_info import DatasetInfo

    def zipped(parts):
        return _iterated(tf.data.Dataset.zip(tuple(parts)))

    def shuffled():
        for source in _sources(folders):
            info = DatasetInfo.load(source.path)
            people = mixing.shuffle_people(source.path, info, source.kind, _config(), 0)
            yield people.batch(source.count)

    def mapped(fn):
        plain = tf.autograph.experimental.do_not_convert
        n_calls = len(os.sched_getaffinity(0))
        for source, planned, added in _planned(folders):
            call = plain(functools.partial(fn, added=added))
            yield planned.unbatch().map(call, n_calls, deterministic=True).batch(source.count)

    def masks_too(example, added):
        sizes = [tf.size(value) for value in added.decode(example).values()]
        return [tf.size(_decoded(example)), *sizes]

    return {
        "read, list, shuffle": lambda: zipped(shuffled()),
        "parse and plan": lambda: zipped(p for _, p, _ in _planned(folders, False)),
        "parse masks, choose pictures": lambda: zipped(p for _, p, _ in _planned(folders)),
        "unbatch, start a call each": lambda: zipped(mapped(lambda e, added: e["decoder"])),
        "decode windows": lambda: zipped(
            mapped(lambda e, added: tf.size(_decoded(e, is_shrunk=False)))
        ),
        "shrink windows": lambda: zipped(mapped(lambda e, added: tf.size(_decoded(e)))),
        "decode masks": lambda: zipped(mapped(masks_too)),
        "batch, copy backgrounds and objects": lambda: _batches(folders),
    }


def _iterated(dataset):
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return iter(dataset.prefetch(2).with_options(options))


def _rates(folders, n_rounds, n_batches=12):
    """Examples a second of host part and baseline, wall time, medians of all but the first turn."""
    iterators = [_batches(folders), _windows(folders, False, is_shrunk=False)]
    rates = [[], []]
    for turn in range(n_rounds):
        for iterator, found in zip(iterators, rates, strict=True):
            for _ in range(4):  # what was made while the other one was measured
                next(iterator)
            start = time.perf_counter()
            for _ in range(n_batches):
                next(iterator)
            if turn:
                found.append(n_batches * BATCH / (time.perf_counter() - start))
            _settle()
    return [float(np.median(found)) for found in rates]


if __name__ == "__main__":
    # Before TensorFlow counts the cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    print(json.dumps(_rates(sys.argv[3:5], int(sys.argv[2]))))
