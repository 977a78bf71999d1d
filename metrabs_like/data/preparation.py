"""Writes a data set as TFRecord shards: parallel, resumable, atomic.

A *task* makes one shard: a picklable callable `task(shard_index) -> iterator of Record (or
SkippedImage)`, the same stream each time it is called. A shard is written beside its final name and
renamed when whole; `dataset.partial.json` remembers the finished ones, so a killed run continues at
the first missing shard, and `dataset.json` appears when all are there.
"""

import concurrent.futures.process
import contextlib
import dataclasses
import fcntl
import glob
import json
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
import tqdm

from metrabs_like.data import dataset_info, records

PARTIAL_NAME = "dataset.partial.json"
LOCK_NAME = ".lock"
_REPORT_EVERY = 16  # images between two reports of a worker to the progress bar
_COUNTS = (
    *("n_images", "n_people", *dataset_info.COUNT_OF_KIND.values()),
    *("n_people_mask", "n_skipped"),
)

Task = Callable[[int], Iterator[records.Record | records.SkippedImage]]


def write_dataset(
    tasks: Sequence[Task],
    output_dir: str,
    info: records.DatasetInfo,
    *,
    n_processes: int | None = None,
    progress: bool = True,
) -> records.DatasetInfo:
    """Writes the shards that are still missing, then `dataset.json`.

    Args:
      tasks: one a shard; task i is called as `task(i)`.
      output_dir: folder to create or to continue in.
      info: name, kind, skeleton, licence and source; counts and shards are filled here.
      n_processes: worker processes; None takes one a CPU core, 1 works in this process.
      progress: show a progress bar (images, images/s).

    Returns:
      The completed description, as saved in `dataset.json`.

    Raises:
      ValueError: if the folder cannot be written, holds another data set, is being written by
        another process, or a record is wrong.
      KeyboardInterrupt: passed on after the workers stopped; finished shards stay.
    """
    _make_writable(output_dir)
    with _locked(output_dir):
        return _write_missing(tasks, output_dir, info, n_processes, progress)


def shard_name(index: int, n_shards: int) -> str:
    """Returns the file name of a shard."""
    return f"shard-{index:05d}-of-{n_shards:05d}.tfrecord"


def _write_missing(tasks, output_dir, info, n_processes, progress):
    """Does the work of `write_dataset` in a folder that is ours alone."""
    finished = _finished_shards(output_dir, info, len(tasks))
    todo = [index for index in range(len(tasks)) if index not in finished]
    n_processes = min(n_processes or os.cpu_count() or 1, max(len(todo), 1))
    n_before = sum(shard["n_images"] for shard in finished.values())
    with tqdm.tqdm(
        initial=n_before, unit=" images", disable=not progress, desc=info.name, smoothing=0.1
    ) as bar:
        run = _run_here if n_processes == 1 else _run_in_processes
        for shard in run(tasks, todo, output_dir, bar.update, n_processes):
            finished[shard["index"]] = shard
            partial = {"identity": info.identity, "shards": list(finished.values())}
            dataset_info.write_json_atomically(os.path.join(output_dir, PARTIAL_NAME), partial)
    complete = _completed(info, [finished[index] for index in range(len(tasks))])
    complete.save(output_dir)
    _remove_if_there(os.path.join(output_dir, PARTIAL_NAME))
    return complete


class _Stopped(Exception):
    """Raised inside a worker when the run is being given up."""


def _write_shard(task, index, path, report, is_stopped):
    """Writes one shard and returns its entry for `dataset.json`."""
    counts = dict.fromkeys(_COUNTS, 0)
    skipped = []
    temporary = f"{path}.tmp-{os.getpid()}"
    n_reported = 0
    try:
        with tf.io.TFRecordWriter(temporary) as writer:
            for item in task(index):
                if is_stopped():
                    raise _Stopped
                if isinstance(item, records.SkippedImage):
                    skipped.append([item.name, item.reason])
                    counts["n_skipped"] += 1
                    continue
                writer.write(records.encode_record(item))
                _count(counts, item)
                if counts["n_images"] - n_reported == _REPORT_EVERY:
                    n_reported = counts["n_images"]
                    report(_REPORT_EVERY)
        report(counts["n_images"] - n_reported)
        digest = dataset_info.sha256_of_file(temporary)
        n_bytes = os.path.getsize(temporary)
        os.replace(temporary, path)
    finally:
        _remove_if_there(temporary)
    entry = {"index": index, "file": os.path.basename(path), "n_bytes": n_bytes, "sha256": digest}
    return {**entry, **counts, "skipped": skipped}


def _count(counts, record):
    counts["n_images"] += 1
    counts["n_people"] += len(record.people)
    counts["n_people_param"] += sum(person.body is not None for person in record.people)
    counts["n_people_3d"] += sum(bool(person.validity3d.any()) for person in record.people)
    counts["n_people_dense"] += sum(
        person.surface is not None and len(person.surface.points2d) > 0 for person in record.people
    )
    counts["n_people_2d"] += sum(bool(person.validity2d.any()) for person in record.people)
    counts["n_people_mask"] += sum(person.mask is not None for person in record.people)


def _run_here(tasks, todo, output_dir, report, n_processes):
    """Yields the entries of the shards, written one after the other in this process."""
    del n_processes
    for index in todo:
        path = os.path.join(output_dir, shard_name(index, len(tasks)))
        yield _write_shard(tasks[index], index, path, report, lambda: False)


def _run_in_processes(tasks, todo, output_dir, report, n_processes):
    """Yields the entries of the shards as worker processes finish them."""
    # Spawned, not forked: a forked TensorFlow may hang.
    context = multiprocessing.get_context("spawn")
    reports, stop = context.Queue(), context.Event()
    executor = concurrent.futures.ProcessPoolExecutor(
        n_processes, context, initializer=_start_worker, initargs=(reports, stop)
    )
    try:
        with _quiet_workers():
            pending = {
                executor.submit(
                    _work, tasks[i], i, os.path.join(output_dir, shard_name(i, len(tasks)))
                )
                for i in todo
            }
        while pending:
            done, pending = concurrent.futures.wait(
                pending, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED
            )
            _drain(reports, report)
            for future in done:
                yield _result(future)
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)
        _drain(reports, report)


def _result(future):
    try:
        return future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise RuntimeError(
            "A worker process died: killed, out of memory, or started by a script that lacks "
            "`if __name__ == '__main__':`. Finished shards are kept; run again to go on, "
            "with n_processes=1 if it keeps happening."
        ) from None


class _quiet_workers:  # noqa: N801 (a context manager used like a function)
    """Starts workers with a silent TensorFlow that leaves the GPU alone."""

    _ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def __enter__(self):
        self._before = {name: os.environ.get(name) for name in self._ENVIRONMENT}
        os.environ.update(self._ENVIRONMENT)

    def __exit__(self, *exception):
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_worker = {}


def _start_worker(reports, stop):
    """Prepares a worker: Ctrl-C is the parent's business, and an orphan ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(reports=reports, stop=stop)
    parent = multiprocessing.parent_process()

    def end_with_parent():
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _work(task, index, path):
    """Writes one shard inside a worker."""
    return _write_shard(task, index, path, _worker["reports"].put, _worker["stop"].is_set)


def _drain(reports, report):
    """Passes the workers' reports on to the progress bar."""
    while True:
        try:
            report(reports.get_nowait())
        except queue.Empty:
            return


def _finished_shards(output_dir, info, n_shards):
    """Returns the entries, by index, of whole shards of an earlier run of the same job."""
    for leftover in glob.glob(os.path.join(glob.escape(output_dir), "shard-*.tmp-*")):
        _remove_if_there(leftover)
    state = _earlier_state(output_dir)
    if state is None:
        return {}
    identity = json.loads(json.dumps(state["identity"]))
    for field, value in info.identity.items():
        if identity.get(field) != value:
            raise ValueError(
                f"output_dir = {output_dir} holds another data set: its {field} is "
                f"{identity.get(field)!r}, now asked for {value!r}. Choose another output_dir or "
                "delete that one."
            )
    finished = {}
    for shard in state["shards"]:
        path = os.path.join(output_dir, shard["file"])
        is_whole = os.path.exists(path) and os.path.getsize(path) == shard["n_bytes"]
        if is_whole and shard["file"] == shard_name(shard["index"], n_shards):
            finished[shard["index"]] = shard
    return finished


def _earlier_state(output_dir):
    """Returns identity and shards of an earlier run, finished or not; None if there is none."""
    partial = os.path.join(output_dir, PARTIAL_NAME)
    if os.path.exists(partial):
        with open(partial, encoding="utf-8") as file:
            return json.load(file)
    if os.path.exists(os.path.join(output_dir, dataset_info.FILE_NAME)):
        info = records.DatasetInfo.load(output_dir)
        return {"identity": info.identity, "shards": info.shards}
    return None


def _completed(info, shards):
    counts = {name: sum(shard.get(name, 0) for shard in shards) for name in _COUNTS}
    skipped = [entry for shard in shards for entry in shard["skipped"]]
    return dataclasses.replace(info, counts=counts, shards=shards, skipped=skipped)


@contextlib.contextmanager
def _locked(output_dir):
    """Keeps a second run out of the folder; the lock ends with the process, however it ends."""
    path = os.path.join(output_dir, LOCK_NAME)
    with open(path, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"output_dir = {output_dir} is being written by another process; "
                "wait for it, or choose another folder."
            ) from None
        try:
            yield
        finally:
            _remove_if_there(path)


def _make_writable(output_dir):
    """Creates the folder and proves that it can be written."""
    probe = os.path.join(output_dir, f".probe-{os.getpid()}")
    try:
        os.makedirs(output_dir, exist_ok=True)
        with open(probe, "w", encoding="utf-8"):
            pass
    except OSError as error:
        raise ValueError(
            f"output_dir = {output_dir} cannot be written ({error.strerror}); "
            "choose another folder or mend its permissions."
        ) from None
    _remove_if_there(probe)


def _remove_if_there(path):
    if os.path.exists(path):
        os.remove(path)
