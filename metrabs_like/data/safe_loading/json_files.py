"""`load_json`: JSON files with limits on size and depth."""

import json
from typing import Any

from metrabs_like.data.safe_loading.refusal import check_size, refuse

MAX_JSON_BYTES = 2 << 30
"""COCO's largest annotation file has 0.5 GB; the parsed form takes some ten times that."""

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
    check_size(path, max_bytes)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except RecursionError:
        _refuse_depth(path, max_depth)
    except ValueError as error:
        refuse(path, f"is no JSON ({str(error)[:200]})", "copy it again")
    _check_depth(content, path, max_depth)
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
