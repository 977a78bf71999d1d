"""The joint set as frozen data.

Conventions: a joint is addressed by its index in `joint_names`; `l`/`r` are the person's own left
  and right.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_SIDE_PREFIXES = (("left", "right"), ("l", "r"))
_SIDE_SUFFIXES = (("_left", "_right"), ("_l", "_r"))


@dataclass(frozen=True)
class Skeleton:
    """A named, ordered set of joints with its edges.

    Attributes:
      name: Short identifier, e.g. `"smpl_24"`; a union joins its parts' names with `+`.
      joint_names: `P` unique names. In a union each carries its part's suffix: `lsho_smpl`,
        `lsho_coco`.
      edges: Pairs of joint indices to draw and to measure as bones, the inner joint first.
      suffix: What the joint names of this set get in a union; empty for a union.
      parts: For a union `((part name, number of joints), ...)` in the order of the joints, else
        empty.

    Raises:
      ValueError: on repeated or empty names, or edges that are no pair of two different joints.
    """

    name: str
    joint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()
    suffix: str = ""
    parts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "joint_names", tuple(self.joint_names))
        object.__setattr__(self, "edges", tuple(tuple(edge) for edge in self.edges))
        object.__setattr__(self, "parts", tuple(tuple(part) for part in self.parts))
        self._check_names()
        self._check_edges()
        if self.parts and sum(count for _, count in self.parts) != len(self.joint_names):
            raise ValueError(
                f"Skeleton.parts of {self.name!r} is {self.parts!r}, which does not add up to its "
                f"{len(self.joint_names)} joints; build unions with skeletons.union."
            )

    def _check_names(self):
        if not self.joint_names:
            raise ValueError(f"Skeleton.joint_names of {self.name!r} is empty; name one or more.")
        for joint_name in self.joint_names:
            if not isinstance(joint_name, str) or not joint_name:
                raise ValueError(
                    f"Skeleton.joint_names of {self.name!r} holds {joint_name!r}; "
                    "every joint needs a non-empty text as its name."
                )
        repeated = sorted({n for n in self.joint_names if self.joint_names.count(n) > 1})
        if repeated:
            raise ValueError(
                f"Skeleton.joint_names of {self.name!r} repeats {repeated}; names must be unique."
            )

    def _check_edges(self):
        n_joints = len(self.joint_names)
        for edge in self.edges:
            if len(edge) != 2 or not all(isinstance(j, int) and 0 <= j < n_joints for j in edge):
                raise ValueError(
                    f"Skeleton.edges of {self.name!r} holds {edge!r}; "
                    f"an edge is a pair of joint indices between 0 and {n_joints - 1}."
                )
            if edge[0] == edge[1]:
                raise ValueError(
                    f"Skeleton.edges of {self.name!r} holds {edge!r}; "
                    "an edge joins two different joints."
                )

    @property
    def n_joints(self) -> int:
        """Number of joints `P`."""
        return len(self.joint_names)

    def index(self, name: str) -> int:
        """Looks a joint up by name.

        Args:
          name: A joint name as in `joint_names`; with the own suffix (`lsho_smpl` in `smpl_24`)
            also accepted.

        Returns:
          Its index.

        Raises:
          ValueError: if there is no such joint; the message lists the closest names.
        """
        positions = self._positions
        if name in positions:
            return positions[name]
        tail = f"_{self.suffix}"
        if self.suffix and name.endswith(tail) and name[: -len(tail)] in positions:
            return positions[name[: -len(tail)]]
        close = difflib.get_close_matches(str(name), self.joint_names, n=5, cutoff=0.4)
        hint = f"close names: {', '.join(close)}" if close else f"joints: {self.joint_names}"
        raise ValueError(f"joint name {name!r} is not in skeleton {self.name!r}; {hint}.")

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.joint_names)}

    @cached_property
    def mirror_indices(self) -> tuple[int, ...]:
        """Permutation that swaps left and right.

        Joint `i` of a mirrored person is joint `mirror_indices[i]` of the original one.

        Pairs are found by name (`lsho`/`rsho`, `left_hip`/`right_hip`, `hip_l`/`hip_r`); a joint
        without a counterpart maps to itself.
        """
        return tuple(self._positions[self._mirrored_name(name)] for name in self.joint_names)

    def _mirrored_name(self, name: str) -> str:
        for candidate in _side_swapped(name):
            if candidate in self._positions:
                return candidate
        return name

    def to_dict(self) -> dict:
        """Returns the skeleton as plain lists and texts, ready for JSON."""
        return {
            "name": self.name,
            "joint_names": list(self.joint_names),
            "edges": [list(edge) for edge in self.edges],
            "suffix": self.suffix,
            "parts": [list(part) for part in self.parts],
        }

    @classmethod
    def from_dict(cls, fields: Mapping) -> Skeleton:
        """Builds a skeleton from `to_dict`'s form; edges may also be pairs of joint names.

        Args:
          fields: `name`, `joint_names` and optionally `edges`, `suffix` and `parts`.

        Returns:
          The skeleton.

        Raises:
          ValueError: on missing or unknown keys, an unknown joint name in an edge, or an invalid
            skeleton.
        """
        known = {"name", "joint_names", "edges", "suffix", "parts"}
        if not isinstance(fields, Mapping):
            raise ValueError(
                f"a skeleton is a mapping with the keys {sorted(known)}, not {fields!r}."
            )
        unknown = sorted(set(fields) - known)
        missing = sorted({"name", "joint_names"} - set(fields))
        if unknown or missing:
            raise ValueError(
                f"skeleton fields: missing {missing}, unknown {unknown}; "
                f"the keys are {sorted(known)}."
            )
        bare = cls(fields["name"], tuple(fields["joint_names"]))
        edges = (
            tuple(bare.index(end) if isinstance(end, str) else end for end in edge)
            for edge in fields.get("edges", ())
        )
        return cls(
            name=fields["name"],
            joint_names=tuple(fields["joint_names"]),
            edges=tuple(edges),
            suffix=fields.get("suffix", ""),
            parts=tuple(fields.get("parts", ())),
        )


def _side_swapped(name: str):
    """Yields the names that the joint of the other side could have."""
    for one, other in (*_SIDE_PREFIXES, *(pair[::-1] for pair in _SIDE_PREFIXES)):
        if name.startswith(one):
            yield other + name[len(one) :]
    for one, other in (*_SIDE_SUFFIXES, *(pair[::-1] for pair in _SIDE_SUFFIXES)):
        if name.endswith(one):
            yield name[: -len(one)] + other
