"""Restricted loading of files from others: data comes in, nothing in them runs.

Pickles, MATLAB, HDF5, JSON and npz files; each loader has limits (named constants) and raises
`UnsafeFile`, a `ValueError` that names the file, what was found in it and the remedy.
"""

from metrabs_like.data.safe_loading.pickles import load_pickle
from metrabs_like.data.safe_loading.refusal import UnsafeFile

__all__ = ["UnsafeFile", "load_pickle"]
