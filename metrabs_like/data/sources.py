"""One source of training data, as a flag names it, and how often its crops are changed.

Conventions: probabilities 0..1; a change that is not named for a source takes the pipeline's.
"""

import dataclasses
import os
import warnings

from metrabs_like.data.dataset_info import FILE_NAME, KINDS, DatasetInfo
from metrabs_like.skeletons import Skeleton, index_map

PLACEMENT_CHANGES = ("partial", "full_rotation")
"""Changes of what the crop looks at, made while the window is planned."""
APPEARANCE_CHANGES = ("shapes", "objects", "background", "colour", "blur", "jpeg")
"""Changes of the crop's pixels, made on the device, in the order of `appearance.CHANGES`."""
CHANGES = PLACEMENT_CHANGES + APPEARANCE_CHANGES

_FORM = "KIND:FOLDER:COUNT[:CHANGE=PROBABILITY...]"
_EXAMPLE = "kp3d:data/synthetic:28 or kp3d:data/agora3:8:background=0.7"


class ShardsSkipped(UserWarning):
    """Says which damaged shards of a source are left out.

    Attributes:
      n_shards: how many.
    """

    def __init__(self, path: str, reasons: list[str], n_all: int):
        self.n_shards = len(reasons)
        super().__init__(
            f"source {path}: {len(reasons)} of {n_all} shards are skipped: {'; '.join(reasons)}"
        )


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source of training data.

    Attributes:
      path: folder of a prepared data set.
      kind: which annotation is used, one of `dataset_info.KINDS`.
      count: examples of it in every batch.
      probabilities: `(change, probability)` pairs that replace the pipeline's for this source.
    """

    path: str
    kind: str
    count: int
    probabilities: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r} of a source must be one of {', '.join(KINDS)}.")
        if self.count < 1:
            raise ValueError(f"count = {self.count} of source {self.path!r} must be at least 1.")
        for change, probability in self.probabilities:
            if change not in CHANGES:
                raise ValueError(
                    f"source {self.path!r}: there is no change {change!r}; "
                    f"one of {', '.join(CHANGES)}."
                )
            if not 0 <= probability <= 1:
                raise ValueError(
                    f"source {self.path!r}: {change} = {probability} must be between 0 and 1."
                )


def parse_source(text: str) -> SourceConfig:
    """Parses `KIND:FOLDER:COUNT`, for example `kp3d:data/synthetic:28`.

    Changes of the crops that this source alone gets may follow: `:background=0.7:blur=0`.

    Raises:
      ValueError: naming the text and the form that is expected.
    """
    kind, _, rest = text.partition(":")
    probabilities = []
    while "=" in rest.rpartition(":")[2]:
        rest, _, setting = rest.rpartition(":")
        change, _, value = setting.partition("=")
        probabilities.append((change, _parsed_probability(text, value)))
    path, _, count = rest.rpartition(":")
    if not path or not count.isdecimal():
        raise ValueError(f"source = {text!r} is not of the form {_FORM}, for example {_EXAMPLE}.")
    return SourceConfig(path, kind, int(count), tuple(reversed(probabilities)))


def parse_sources(sources) -> list[SourceConfig]:
    """Parses the texts among some sources.

    Args:
      sources: `SourceConfig`s or `KIND:FOLDER:COUNT` texts.

    Raises:
      ValueError: if there is none, or a text is misspelt.
    """
    sources = [parse_source(s) if isinstance(s, str) else s for s in sources]
    if not sources:
        raise ValueError("sources is empty; pass at least one KIND:FOLDER:COUNT.")
    return sources


def open_source(
    source: SourceConfig, skeleton: Skeleton, *, skip_corrupt: bool = False
) -> DatasetInfo:
    """Loads the description of a source and checks that it can be used.

    Args:
      source: the source.
      skeleton: the model's.
      skip_corrupt: leave damaged shards out, after reading all of them.

    Returns:
      The description, of the shards that are used.

    Raises:
      ValueError: naming the source, if it is missing, damaged, or shares no joint with the model
        though its kind is about joints.
    """
    info = DatasetInfo.load(source.path)
    if skip_corrupt:
        info, reasons = info.without_damaged(source.path)
        if reasons:
            n_all = len(info.shards) + len(reasons)
            warnings.warn(ShardsSkipped(source.path, reasons, n_all), stacklevel=2)
    else:
        info.check_files(source.path)
    own = Skeleton.from_dict(info.skeleton)
    if source.kind in ("kp3d", "kp2d") and max(index_map(own, skeleton)) < 0:
        raise ValueError(
            f"Source {source.path} (skeleton {own.name!r}) has no joint of the model's skeleton "
            f"{skeleton.name!r}; add +{os.path.join(source.path, FILE_NAME)} to the trained "
            "skeleton, or prepare the data with a skeleton whose suffix is that of the joints' "
            "definitions (smpl, coco, ...)."
        )
    return info


def _parsed_probability(text, value):
    try:
        return float(value)
    except ValueError:
        raise ValueError(
            f"source = {text!r}: {value!r} is no number; a change is written as "
            "NAME=PROBABILITY, for example background=0.7."
        ) from None
