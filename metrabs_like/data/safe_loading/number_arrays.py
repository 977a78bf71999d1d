"""`as_array`: arrays of numbers from what a file holds, lists within lists included."""

import numpy as np

MAX_ITEMS = 10_000_000
"""Lists and numbers in one nested list (ours); SMPL's largest array has half of it."""

_MAX_DEPTH = 32
_NUMBERS = "biuf"


def as_array(value, what: str, max_items: int = MAX_ITEMS) -> np.ndarray:
    """Turns loaded numbers, or lists of them, into an array.

    A file of a few hundred bytes can hold a list that holds another one 16 times, and so on; NumPy
    would write all of it out. So the items are counted first, as often as they occur.

    Args:
      value: an array (returned as it is, of whatever type), a number, or lists or tuples of
        numbers and of arrays.
      what: file and entry, for the messages.
      max_items: limit on lists, numbers and elements of arrays, for lists only.

    Returns:
      The array; of lists it is one of booleans, whole or real numbers.

    Raises:
      ValueError: if it holds more than `max_items`, or something else than numbers.
    """
    if isinstance(value, np.ndarray):
        return value
    _count(value, what, max_items, 0)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{what} is no array of numbers ({str(error)[:200]}).") from None
    if array.dtype.kind not in _NUMBERS:
        raise ValueError(f"{what} is no array of numbers of up to 64 bits.")
    return array


def _count(value, what, n_left, depth):
    """Returns how many items of `n_left` remain after those of a value."""
    if isinstance(value, (np.ndarray, np.generic)):
        is_number, n_left = value.dtype.kind in _NUMBERS, n_left - max(value.size, 1)
    else:
        is_number, n_left = isinstance(value, (int, float, list, tuple)), n_left - 1
    if not is_number or depth > _MAX_DEPTH:
        found = "lists nested too deep" if is_number else f"a {type(value).__name__}"
        raise ValueError(f"{what} is no array of numbers: it holds {found}.")
    if n_left < 0:
        raise ValueError(f"{what} holds more numbers than such an array can have.")
    if isinstance(value, (list, tuple)):
        for item in value:
            n_left = _count(item, what, n_left, depth + 1)
    return n_left
