"""Unions of joint sets and the way between two sets, by joint name.

Conventions: indices count joints from 0; -1 stands for "this joint is not there".
"""

from __future__ import annotations

import numpy as np

from metrabs_like.skeletons.skeleton import Skeleton


def union(*skeletons: Skeleton) -> Skeleton:
    """Puts joint sets side by side without merging any joint.

    Annotations differ in what they call a hip, so `lhip_smpl` and `lhip_coco` stay two points.

    Args:
      *skeletons: One or more; a union among them contributes its parts.

    Returns:
      The union: joints in the order given, plain names extended by `_suffix`. A single argument
        comes back unchanged.

    Raises:
      ValueError: without arguments, for a plain skeleton without suffix, or when two parts yield
        the same joint name.
    """
    if not skeletons:
        raise ValueError("skeletons.union got 0 skeletons; give one or more.")
    if len(skeletons) == 1:
        return skeletons[0]
    names: list[str] = []
    edges: list[tuple[int, int]] = []
    parts: list[tuple[str, int]] = []
    for skeleton in skeletons:
        if not skeleton.parts and not skeleton.suffix:
            raise ValueError(
                f"Skeleton.suffix of {skeleton.name!r} is empty; "
                "a member of a union needs one to keep its joints apart."
            )
        edges.extend((a + len(names), b + len(names)) for a, b in skeleton.edges)
        names.extend(_qualified_names(skeleton))
        parts.extend(skeleton.parts or ((skeleton.name, skeleton.n_joints),))
    name = "+".join(skeleton.name for skeleton in skeletons)
    return Skeleton(name, tuple(names), tuple(edges), "", tuple(parts))


def index_map(source: Skeleton, target: Skeleton) -> tuple[int, ...]:
    """Finds every joint of `target` in `source` by name.

    Names match when they are equal, or equal once plain names carry their set's suffix: `lsho` of
    `smpl_24` is `lsho_smpl` of a union and not its `lsho_coco`. Two plain sets match by plain
    names (`lsho` of `smpl_24` is taken for `lsho` of `coco_17`, although their definitions differ
    by centimetres).

    Args:
      source: The set that the data has.
      target: The set that is wanted.

    Returns:
      For each target joint its index in `source`, or -1.
    """
    positions = {name: i for i, name in enumerate(source.joint_names)}
    qualified = {name: i for i, name in enumerate(_qualified_names(source))}
    return tuple(
        positions.get(name, qualified.get(full_name, -1))
        for name, full_name in zip(target.joint_names, _qualified_names(target), strict=True)
    )


def convert(
    points: np.ndarray, source: Skeleton, target: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Reorders points from one joint set to another.

    Args:
      points: float `[..., P_source, d]`, any unit and frame; NaN marks a missing point.
      source: Joint set of `points`.
      target: Joint set of the result.

    Returns:
      Points `[..., P_target, d]` in `points`' dtype, zero where the source has none, and their
      validity, bool `[..., P_target]`.

    Raises:
      ValueError: if the point axis does not have `source.n_joints` entries.
    """
    points = np.asarray(points)
    if points.ndim < 2 or points.shape[-2] != source.n_joints:
        raise ValueError(
            f"points has shape {points.shape}; skeleton {source.name!r} needs "
            f"[..., {source.n_joints}, d]."
        )
    indices = np.array(index_map(source, target))
    taken = points[..., np.maximum(indices, 0), :]
    validity = (indices >= 0) & np.isfinite(taken).all(axis=-1)
    return np.where(validity[..., np.newaxis], taken, np.zeros_like(taken)), validity


def components(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """Lists the joint indices of each part of a union.

    Args:
      skeleton: A union or a plain skeleton.

    Returns:
      Part name to joint indices; a plain skeleton is its own only part.
    """
    result = {}
    start = 0
    for name, count in skeleton.parts or ((skeleton.name, skeleton.n_joints),):
        result[name] = tuple(range(start, start + count))
        start += count
    return result


def _qualified_names(skeleton: Skeleton) -> tuple[str, ...]:
    """Joint names with the suffix of their set, as a union spells them."""
    if not skeleton.suffix:
        return skeleton.joint_names
    return tuple(f"{name}_{skeleton.suffix}" for name in skeleton.joint_names)
