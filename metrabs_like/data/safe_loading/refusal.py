"""The error of the restricted loaders, and the check of a file's size."""

import os
from typing import NoReturn


class UnsafeFile(ValueError):
    """Says which file is refused, what was found in it, and what to do about it."""


def refuse(path: str, found: str, remedy: str) -> NoReturn:
    """Raises `UnsafeFile` for a file.

    Args:
      path: the file.
      found: what is wrong with it.
      remedy: what the user can do.
    """
    raise UnsafeFile(f"{path} is refused: it {found}; {remedy}.") from None


def check_size(path: str, max_bytes: int) -> int:
    """Returns the size of a file in bytes.

    Raises:
      UnsafeFile: if it is larger than `max_bytes`, or no ordinary file (a pipe would block).
      ValueError: if it is missing.
    """
    if not os.path.exists(path):
        raise ValueError(f"{path} does not exist; check the source folder.")
    if not os.path.isfile(path):
        refuse(path, "is no ordinary file", "name the data file itself")
    n_bytes = os.path.getsize(path)
    if n_bytes > max_bytes:
        refuse(
            path,
            f"has {n_bytes} bytes, more than max_bytes = {max_bytes}",
            "pass a larger limit if you trust it",
        )
    return n_bytes
