"""Finding a joint set by its name or in a user's file."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from metrabs_like.skeletons.builtin import BUILTIN
from metrabs_like.skeletons.mapping import union
from metrabs_like.skeletons.skeleton import Skeleton


def load(path: str | Path) -> Skeleton:
    """Reads a user-defined skeleton.

    The file is JSON, its edges (pairs of names or of indices) and its suffix are optional:

        {"name": "mine", "suffix": "mine",
         "joint_names": ["hip", "lkne", "rkne"], "edges": [["hip", "lkne"], ["hip", "rkne"]]}

    Args:
      path: The file, or the `dataset.json` of a prepared data set, which holds its skeleton.

    Returns:
      The skeleton.

    Raises:
      ValueError: if the file is unreadable, is not JSON, or does not describe a valid skeleton.
    """
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"skeleton file {str(path)!r} is unreadable ({error.strerror}); check the path."
        ) from error
    except ValueError as error:
        raise ValueError(f"skeleton file {str(path)!r} is not valid JSON: {error}.") from error
    if isinstance(fields, dict) and "skeleton" in fields:
        fields = fields["skeleton"]
    try:
        return Skeleton.from_dict(fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"skeleton file {str(path)!r}: {error}") from error


def get(name: str) -> Skeleton:
    """Returns a skeleton by name.

    Args:
      name: A built-in set (`"smpl_24"`), a file that ends in `.json`, or several of either joined
        with `+` (`"smpl_24+coco_17"`), which gives their union.

    Returns:
      The skeleton.

    Raises:
      ValueError: for an unknown name; the message lists the known ones.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    if name.endswith(".json") and ("+" not in name or Path(name).exists()):
        return load(name)
    if "+" in name:
        return union(*(get(part) for part in _parts(name)))
    close = difflib.get_close_matches(name, BUILTIN, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"skeleton name {name!r} is unknown; {hint}Known are {', '.join(BUILTIN)}, unions of them "
        "such as 'smpl_24+coco_17', and paths of .json files."
    )


def _parts(name):
    """Splits at `+`, except inside the path of a file that is there."""
    parts, pieces = [], name.split("+")
    while pieces:
        n = next((n for n in range(len(pieces), 1, -1) if _is_file("+".join(pieces[:n]))), 1)
        parts.append("+".join(pieces[:n]))
        pieces = pieces[n:]
    return parts


def _is_file(text):
    return text.endswith(".json") and Path(text).exists()
