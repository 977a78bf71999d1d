"""The `dataset.json` beside the shards: what a prepared data set holds, and the check of its files.

Conventions: units as the library's (m, px); `n_*` are counts.
"""

import dataclasses
import functools
import hashlib
import json
import os

SCHEMA_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # 1 has no masks, body parameters and surface points
FILE_NAME = "dataset.json"
KINDS = ("param", "kp3d", "dense", "kp2d")
COUNT_OF_KIND = {
    "param": "n_people_param",
    "kp3d": "n_people_3d",
    "dense": "n_people_dense",
    "kp2d": "n_people_2d",
}
"""Which entry of `DatasetInfo.counts` says how many people a kind can use."""
UNITS = {
    "points3d": "m",
    "points2d": "px",
    "box": "px",
    "intrinsics": "px",
    "extrinsics": "m",
    "pose_rotvecs": "rad",
    "translation": "m",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Description of a prepared data set; `preparation.write_dataset` fills counts and shards.

    Attributes:
      name: of the data set.
      kind: the main annotation it has: "param" (body-model parameters), "kp3d" (3D points in
        the camera frame), "dense" (surface points in the image) or "kp2d" (2D points). A source
        may use any that it has.
      skeleton: a `Skeleton.to_dict()`; its joint names are the order of the stored points.
      licence: one line on what may be done with the data.
      source: how it was made (reader and settings); a resumed run must agree with it.
      counts: n_images, n_people; n_people_param, n_people_3d, n_people_dense and n_people_2d (with
        body parameters, at least one such point); n_people_mask (with a mask); n_skipped.
      shards: one dict a shard: file, n_images, n_bytes, sha256 ...
      skipped: `[name, reason]` of each image left out.
      body_model: `name` and `n_vertices` of the model that body parameters and surface points
        refer to; empty where there are none.
      expected: about how many examples the original's log had of this data set, 0 if unknown.
      dropped: reason -> how many people or images a selection rule left out.
      units: unit of every stored quantity.
      schema_version: version of the record's layout.
    """

    name: str
    kind: str
    skeleton: dict
    licence: str = ""
    source: dict = dataclasses.field(default_factory=dict)
    counts: dict = dataclasses.field(default_factory=dict)
    shards: list = dataclasses.field(default_factory=list)
    skipped: list = dataclasses.field(default_factory=list)
    body_model: dict = dataclasses.field(default_factory=dict)
    expected: int = 0
    dropped: dict = dataclasses.field(default_factory=dict)
    units: dict = dataclasses.field(default_factory=lambda: dict(UNITS))
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r} is unknown; choose one of {', '.join(KINDS)}.")
        if not self.skeleton.get("joint_names"):
            raise ValueError("skeleton has no joint_names; pass Skeleton.to_dict().")

    @property
    def n_points(self) -> int:
        """Returns P, the number of stored points per person."""
        return len(self.skeleton["joint_names"])

    def n_usable(self, kind: str) -> int:
        """Returns how many people have an annotation of a kind."""
        return self.counts.get(COUNT_OF_KIND[kind], 0)

    @property
    def evaluation_kind(self) -> str:
        """Returns the kind to measure with: the first that there is of kp3d, param, kp2d, dense."""
        order = ("kp3d", "param", "kp2d", "dense")
        return next((kind for kind in order if self.n_usable(kind)), self.kind)

    @property
    def identity(self) -> dict:
        """Returns what two runs must share so that one may continue the other."""
        fields = ("name", "kind", "skeleton", "source", "body_model", "schema_version")
        # Through JSON, because that is how the stored one comes back (tuples become lists).
        return json.loads(json.dumps({field: getattr(self, field) for field in fields}))

    def save(self, folder: str) -> None:
        """Writes `dataset.json` atomically into a folder."""
        write_json_atomically(os.path.join(folder, FILE_NAME), dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: str) -> "DatasetInfo":
        """Reads `dataset.json` of a folder.

        Raises:
          ValueError: if the file is absent, broken, or of another schema version.
        """
        path = os.path.join(folder, FILE_NAME)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except FileNotFoundError:
            raise ValueError(
                f"{path} does not exist: the folder holds no prepared data set. Run prepare_data "
                "with this output_dir (an interrupted run continues where it stopped)."
            ) from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); run prepare_data again.") from None
        version = content.get("schema_version")
        if version not in _READABLE_VERSIONS:
            raise ValueError(
                f"{path}: schema_version = {version}, this program reads "
                f"{' and '.join(map(str, _READABLE_VERSIONS))}; run prepare_data again."
            )
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in content.items() if key in known})

    def shard_paths(self, folder: str) -> list[str]:
        """Returns the paths of the shards in order."""
        return [os.path.join(folder, shard["file"]) for shard in self.shards]

    def check_files(self, folder: str, *, hashes: bool = False) -> None:
        """Checks that every shard is there and whole.

        Args:
          folder: of the data set.
          hashes: also compare SHA-256 (reads everything); sizes alone find truncation.

        Raises:
          ValueError: naming the file and the remedy.
        """
        for shard, path in zip(self.shards, self.shard_paths(folder), strict=True):
            damage = _damage(shard, path, sha256_of_file if hashes else None)
            if damage:
                raise ValueError(
                    f"{damage}. Delete it and run prepare_data again: it rewrites only this shard."
                )

    def without_damaged(self, folder: str) -> tuple["DatasetInfo", list[str]]:
        """Leaves out the shards that are missing, truncated or differ from their SHA-256.

        Args:
          folder: of the data set; every shard in it is read once in the life of the process, and
            again after it was changed.

        Returns:
          `(info, reasons)`: the description of what is left, its counts included, and what is
          wrong with each shard that was left out.
        """
        checked = [
            (shard, _damage(shard, path, _remembered_sha256))
            for shard, path in zip(self.shards, self.shard_paths(folder), strict=True)
        ]
        whole = [shard for shard, damage in checked if not damage]
        counts = {name: sum(shard.get(name, 0) for shard in whole) for name in self.counts}
        reasons = [damage for _, damage in checked if damage]
        return dataclasses.replace(self, shards=whole, counts=counts), reasons


def _damage(shard, path, hash_file):
    """Says what is wrong with a shard, in words; empty if it is whole. No function, no hash."""
    if not os.path.exists(path):
        return f"Shard {path} is missing"
    n_bytes = os.path.getsize(path)
    if n_bytes != shard["n_bytes"]:
        return (
            f"Shard {path} has {n_bytes} bytes instead of {shard['n_bytes']} "
            "(truncated or overwritten)"
        )
    if hash_file and hash_file(path) != shard["sha256"]:
        return f"Shard {path} differs from its SHA-256 (damaged)"
    return ""


def _remembered_sha256(path):
    """SHA-256 of a file; several sources may use one folder, of gigabytes."""
    state = os.stat(path)
    changes = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return _sha256_of_version(os.path.abspath(path), changes)


@functools.cache
def _sha256_of_version(path, changes):
    del changes  # a file that was written to is another one
    return sha256_of_file(path)


def sha256_of_file(path: str) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_json_atomically(path: str, content: dict) -> None:
    """Writes JSON to a temporary file beside the target, then renames it."""
    temporary = f"{path}.tmp-{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(temporary, path)
