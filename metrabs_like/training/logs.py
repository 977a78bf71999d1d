"""Log rows: means over a window of updates, to CSV and TensorBoard.

The open window is part of the checkpoint, and rows after the restored step are dropped, so that an
interrupted run's log equals that of an uninterrupted one (times excepted).
"""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib

import numpy as np
import tensorflow as tf

LOG_NAME = "log.csv"


class LogWindow(tf.train.experimental.PythonState):
    """Sums of the logged values since the last row; skipped updates do not count."""

    def __init__(self):
        """Starts empty."""
        self._sums = {}
        self._n = 0

    def add(self, names, rows):
        """Adds updates.

        Args:
          names: of the values, the last one `applied`.
          rows: float `[n, len(names)]`.
        """
        for row in np.asarray(rows, np.float64):
            if row[-1]:
                self._n += 1
                for name, value in zip(names[:-1], row[:-1], strict=True):
                    self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Returns the means by name and empties the window; nothing if no update was made."""
        means = {name: float(value / self._n) for name, value in self._sums.items()}
        self._sums, self._n = {}, 0
        return means

    def serialize(self) -> str:
        """Returns the state as text, for the checkpoint."""
        return json.dumps([self._n, self._sums])

    def deserialize(self, string_value):
        """Takes the state back from a checkpoint."""
        text = string_value.decode() if isinstance(string_value, bytes) else string_value
        self._n, self._sums = json.loads(text)


class CsvLog:
    """A table with one row per log step, flushed row by row."""

    def __init__(self, path, last_step: int):
        """Keeps the complete rows up to `last_step` of an existing file."""
        self._path = pathlib.Path(path)
        self._names = None
        if self._path.exists():
            self._drop_rows_after(last_step)

    def write(self, row: dict):
        """Appends a row that starts with `step`; a new column makes the file be written anew."""
        if self._names is None or not set(row) <= set(self._names):
            rows = self._read() if self._path.exists() else []
            new = [name for name in row if name not in (self._names or ())]
            self._names = [*(self._names or ()), *new]
            self._write_all(rows)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._names, restval="", lineterminator="\n").writerow(row)

    def _drop_rows_after(self, last_step):
        kept = [row for row in self._read() if int(row["step"]) <= last_step]
        if self._names:
            self._write_all(kept)

    def _read(self):
        """Reads the rows; one cut short by a crash is left out."""
        text = self._path.read_text()
        complete = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(complete))
        self._names = list(reader.fieldnames or ()) or None
        return [row for row in reader if None not in row.values() and row["step"].isdigit()]

    def _write_all(self, rows):
        part = self._path.with_name(f".{os.getpid()}.{self._path.name}")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(part, self._path)


class JsonLinesLog:
    """A table of JSON objects, one a line, each with its `step`."""

    def __init__(self, path):
        """Names the file; it need not exist."""
        self._path = pathlib.Path(path)

    def drop_rows_after(self, last_step: int):
        """Keeps the complete rows up to `last_step`, as a run does that goes on from there."""
        if not self._path.exists():
            return
        lines = self._path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= last_step]
        part = self._path.with_name(f".{os.getpid()}.{self._path.name}")
        part.write_text("".join(kept))
        os.replace(part, self._path)

    def write(self, row: dict):
        """Appends a row."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _step_of(line):
    """The step of a row; infinity for one cut short by a crash."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else np.inf
    except (ValueError, KeyError, TypeError):
        return np.inf


class RunLogs:
    """Writes each row to `log.csv` and to TensorBoard's files."""

    def __init__(self, workdir, last_step: int):
        """Opens the files in `workdir`; None writes nothing."""
        self._csv = self._writer = None
        if workdir is not None:
            self._csv = CsvLog(pathlib.Path(workdir) / LOG_NAME, last_step)
            self._writer = tf.summary.create_file_writer(str(pathlib.Path(workdir) / "tensorboard"))

    def write(self, step: int, values: dict[str, float]):
        """Writes one row."""
        if self._csv is None:
            return
        self._csv.write({"step": step, **values})
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def close(self):
        """Closes the files."""
        if self._writer is not None:
            self._writer.close()
