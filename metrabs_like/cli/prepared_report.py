"""What `prepare_data` says at the end: counts, losses with their reasons, the next step."""

import os

from metrabs_like import skeletons
from metrabs_like.data.dataset_info import FILE_NAME, KINDS
from metrabs_like.data.synthetic import SKELETON_NAME
from metrabs_like.skeletons.builtin import BUILTIN

_N_NAMED = 20  # skipped images that are listed
_COUNT_IN_BATCH = 32


def lines(info, folder: str) -> list[str]:
    """Describes a prepared data set.

    Args:
      info: the `DatasetInfo` as written.
      folder: where it is.

    Returns:
      Lines of text: counts, how many examples there are of about how many, what was dropped and
      skipped and why, and flags that train on it.
    """
    counts = ", ".join(f"{value} {name}" for name, value in info.counts.items())
    text = [f"{folder}: {info.name} ({info.kind}): {counts}"]
    if info.expected:
        n = info.n_usable(info.kind)
        text.append(f"{info.name}: {n} examples of about {info.expected} in the original's log")
    text += [f"dropped {count}: {reason}" for reason, count in sorted(info.dropped.items())]
    text += [f"skipped {name}: {reason}" for name, reason in info.skipped[:_N_NAMED]]
    if len(info.skipped) > _N_NAMED:
        path = os.path.join(folder, FILE_NAME)
        text.append(f"... and {len(info.skipped) - _N_NAMED} more, listed in {path}")
    if info.counts["n_people"]:
        text.append(f"train with: {training_flags(info, folder)}")
    elif info.counts["n_images"]:
        text.append("no person in any image: there is nothing to train on")
    return text


def training_flags(info, folder: str) -> str:
    """Returns flags that train on a data set with all it knows.

    2D points are left out where there are 3D ones; joints of one's own join the built-in ones.
    """
    kinds = [kind for kind in KINDS if info.n_usable(kind)]
    if "kp3d" in kinds:
        kinds = [kind for kind in kinds if kind != "kp2d"]
    flags = ["--sources=" + ",".join(f"{kind}:{folder}:{_COUNT_IN_BATCH}" for kind in kinds)]
    if "dense" in kinds:
        flags.append("--metrabs_head=field")
    if {"param", "dense"} & set(kinds) and info.body_model.get("name") not in (None, "procedural"):
        flags.append(f"--metrabs_body_model={info.body_model['name'].upper()}_FILE")
    usual = skeletons.get(SKELETON_NAME)
    own = skeletons.Skeleton.from_dict(info.skeleton)
    if max(skeletons.index_map(own, usual)) < 0:
        name = own.name if own.name in BUILTIN else os.path.join(folder, FILE_NAME)
        flags.append(f"--metrabs_skeleton={usual.name}+{name}")
    return " ".join(flags)
