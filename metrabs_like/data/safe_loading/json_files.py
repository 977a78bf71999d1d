"""`load_json`, `parse_json`: JSON with limits on size and depth.

Conventions: Python's parser ends what is nested deeper than its own limit of some thousand levels;
the lower limit of ours is checked on the parsed form, level by level.
"""

import json
from typing import Any

from metrabs_like.data.safe_loading.refusal import check_size, refuse

MAX_JSON_BYTES = 2 << 30
"""COCO's largest annotation file has 0.5 GB; the parsed form takes some ten times that, of empty
objects thirty times."""

MAX_TEXT_BYTES = 64 << 20
"""Largest text for `parse_json`, such as a line of a file (ours)."""

MAX_JSON_DEPTH = 50
"""Lists and objects inside each other; COCO has 5 (ours)."""


def load_json(
    path: str, *, max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_JSON_DEPTH
) -> Any:
    """Reads a JSON file.

    Args:
      path: the file, UTF-8.
      max_bytes: largest file.
      max_depth: deepest nesting of lists and objects.

    Returns:
      The content. `NaN` and `Infinity`, which Python writes, are numbers here too.

    Raises:
      UnsafeFile: if it is too large or too deep, or no JSON.
      ValueError: if the file is missing.
    """
    n_bytes = check_size(path, max_bytes)
    with open(path, "rb") as file:
        return parse_json(file.read(), path, max_bytes=n_bytes, max_depth=max_depth)


def parse_json(
    text: bytes, where: str, *, max_bytes: int = MAX_TEXT_BYTES, max_depth: int = MAX_JSON_DEPTH
) -> Any:
    """Parses JSON.

    Args:
      text: in UTF-8, with or without the mark that some editors put before it.
      where: file, or file and line, for the messages.
      max_bytes: longest text.
      max_depth: deepest nesting of lists and objects.

    Returns:
      The content, as of `load_json`.

    Raises:
      UnsafeFile: if it is too long or too deep, or no JSON.
    """
    if len(text) > max_bytes:
        refuse(where, f"has more than max_bytes = {max_bytes}", "pass a larger limit")
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        _refuse_depth(where, max_depth)
    except MemoryError:
        refuse(where, "asks for more memory than there is", "do not use it")
    except ValueError as error:
        refuse(where, f"is no JSON ({str(error)[:200]})", "copy it again")
    _check_depth(content, where, max_depth)
    return content


def _check_depth(content, path, max_depth):
    """Walks level by level; the levels above stay, so that nothing deep is freed at once."""
    level, levels = [content], []
    while level := [item for item in level if isinstance(item, (list, dict)) and item]:
        levels.append(level)
        if len(levels) > max_depth:
            _refuse_depth(path, max_depth)
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (list, dict))
        ]


def _refuse_depth(path, max_depth):
    refuse(path, f"is nested more than {max_depth} deep", "do not use it, or pass max_depth")
