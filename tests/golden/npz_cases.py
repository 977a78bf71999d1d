"""Reads golden vectors: npz files with shared arrays and, per case, prefixed ones."""

import dataclasses
import os
import pathlib
import typing

import numpy as np

DEFAULT_FOLDER = pathlib.Path(__file__).parents[1] / "goldens"


def folder(system):
    """Returns the folder of a system's golden files."""
    return pathlib.Path(os.environ.get("METRABS_LIKE_GOLDENS") or DEFAULT_FOLDER) / system


@dataclasses.dataclass(frozen=True)
class Case:
    """One case of a file, or one quantity of a file without cases."""

    path: pathlib.Path
    prefix: str
    name: str

    def __getitem__(self, key):
        arrays = load(self.path)
        full = self.prefix + key
        array = arrays[full if full in arrays else key]
        return array.item() if key.startswith(("arg_", "flag_")) and array.ndim == 0 else array

    def __contains__(self, key):
        arrays = load(self.path)
        return self.prefix + key in arrays or key in arrays

    def expected(self):
        """Returns the keys of this case's reference results."""
        if not self.prefix:
            return [self.name]
        own = [key for key in load(self.path) if key.startswith(self.prefix)]
        keys = [key.removeprefix(self.prefix) for key in own]
        return [key for key in keys if key.startswith(("out", "grad"))]

    def inputs(self):
        """Returns the keys of this case's arrays of input, shared ones included."""
        keys = {key.removeprefix(self.prefix) for key in load(self.path) if "in_" in key}
        return sorted(key for key in keys if key.startswith("in_"))

    @property
    def test_id(self):
        """Returns the id of the case's test."""
        return f"golden-{self.path.parent.name}-{self.path.stem}-{self.name}"


_LOADED = {}


def load(path):
    """Returns a file's arrays, read once."""
    if path not in _LOADED:
        with np.load(path, allow_pickle=False) as archive:
            _LOADED[path] = {key: archive[key] for key in archive}
    return _LOADED[path]


def collect(system):
    """Returns the cases of all files of a system, in order."""
    return [case for path in sorted(folder(system).glob("*.npz")) for case in cases_of(path)]


def cases_of(path):
    """Returns a file's cases; results outside of cases are cases of their own."""
    arrays = load(path)
    names = [str(name) for name in arrays.get("case_names", [])]
    cases = [Case(path, f"c{i:02d}_", name) for i, name in enumerate(names)]
    shared = [key for key in arrays if key.startswith(("out", "grad")) or "__" in key]
    return cases + [Case(path, "", key) for key in shared]


class FileTest(typing.NamedTuple):
    """How the files of one prefix are tested.

    Attributes:
      cases: path -> names of what the file holds.
      check: (path, name) -> None; asserts.
    """

    cases: typing.Callable
    check: typing.Callable
