"""Restricted loading of files from others: data comes in, nothing in them runs.

Pickles, PyTorch, MATLAB, HDF5, JSON and npz files. Each loader has limits (named constants) and
raises `UnsafeFile`, a `ValueError` that names the file, what was found in it and the remedy.
"""

from metrabs_like.data.safe_loading.hdf5_files import load_hdf5
from metrabs_like.data.safe_loading.json_files import load_json, parse_json
from metrabs_like.data.safe_loading.mat_files import load_mat
from metrabs_like.data.safe_loading.npz_files import load_npz
from metrabs_like.data.safe_loading.number_arrays import as_array
from metrabs_like.data.safe_loading.pickles import load_pickle
from metrabs_like.data.safe_loading.refusal import UnsafeFile
from metrabs_like.data.safe_loading.torch_files import load_torch

__all__ = [
    "UnsafeFile",
    "as_array",
    "load_hdf5",
    "load_json",
    "load_mat",
    "load_npz",
    "load_pickle",
    "load_torch",
    "parse_json",
]
