"""Fits that may be missing or damaged: a data set of thousands does not end with one of them.

Conventions: as `body_fits`.
"""

import collections

from metrabs_like.data.readers import body_fits

UNREADABLE = (
    "bodies: the fit's file cannot be read (damaged: copy it again; PyTorch tensors: save them as "
    "NumPy arrays; --nofits leaves all out)"
)


def load_fit(path: str, dropped: collections.Counter) -> body_fits.Fit | None:
    """Reads a fit; nothing in the file runs.

    Args:
      path: as of `body_fits.load_fit`.
      dropped: counts a fit that is missing or cannot be read.

    Returns:
      The fit; None if there is none that can be read.
    """
    try:
        fit = body_fits.load_fit(path)
    except (ValueError, OSError):
        dropped[UNREADABLE] += 1
        return None
    if fit is None:
        dropped["bodies: the fit's file is missing"] += 1
    return fit
