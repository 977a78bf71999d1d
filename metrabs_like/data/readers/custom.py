"""Your own data: a folder with `annotations.jsonl`, `skeleton.json` and images.

Conventions: docs/own_data.md describes the layout. One line is one image; metres, pixels (pixel
(0,0) = centre of the top-left pixel), camera frame x right, y down, z forward.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator

import numpy as np

from metrabs_like import skeletons
from metrabs_like.data import image_files, records
from metrabs_like.data.readers import custom_lines
from metrabs_like.data.safe_loading import UnsafeFile, parse_json

MAX_LINE_BYTES = 4 << 20
"""Longest line of the annotations (ours); a person's takes about 1 kB."""


def plan(
    source_dir: str,
    *,
    annotations: str = "",
    skeleton: str = "",
    name: str = "custom",
    licence: str = "",
    images_per_shard: int = 500,
    seed: int = 0,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of a folder in the `custom` layout.

    Args:
      source_dir: the folder.
      annotations: file in it, one JSON object a line; empty takes `annotations.jsonl`.
      skeleton: a built-in skeleton's name, or a file; empty takes the folder's `skeleton.json`.
      name: of the data set.
      licence: a line on what may be done with it.
      images_per_shard: images per shard.
      seed: shuffles the images over the shards.

    Returns:
      `(info, tasks)` for `preparation.write_dataset`. The kind is kp3d if any line has
      `points3d_m`, else kp2d.

    Raises:
      ValueError: if a file is missing or wrong. Wrong lines are found when the tasks run.
    """
    joints = skeletons.get(skeleton or os.path.join(source_dir, "skeleton.json"))
    if not joints.suffix and not joints.parts:  # a union keeps its members' joints apart by it
        joints = dataclasses.replace(joints, suffix=joints.name)
    annotations = annotations or "annotations.jsonl"
    path = os.path.join(source_dir, annotations)
    offsets, has_3d = _index(path)
    lines = list(enumerate(offsets, start=1))
    lines = [line for line in lines if line[1] is not None]
    if not lines:
        raise ValueError(f"{path} has no line; write one JSON object for each image.")
    order = np.random.default_rng(seed).permutation(len(lines))
    lines = [lines[i] for i in order]
    shards = [lines[i : i + images_per_shard] for i in range(0, len(lines), images_per_shard)]
    source = {
        "reader": "custom",
        "annotations": annotations,
        "n_lines": len(lines),
        "n_bytes": os.path.getsize(path),
        "images_per_shard": images_per_shard,
        "seed": seed,
    }
    info = records.DatasetInfo(
        name=name,
        kind="kp3d" if has_3d else "kp2d",
        skeleton=joints.to_dict(),
        licence=licence,
        source=source,
    )
    read = functools.partial(_read_shard, source_dir, annotations, joints, name)
    return info, [functools.partial(read, shard) for shard in shards]


def _index(path):
    """Returns the byte offset of each line (None for an empty one), and whether any has 3D."""
    offsets, has_3d, position = [], False, 0
    try:
        with open(path, "rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError(
                        f"{path}: line {len(offsets) + 1} has more than {MAX_LINE_BYTES} bytes; "
                        "write one JSON object for each image on a line of its own."
                    )
                offsets.append(position if line.strip() else None)
                has_3d = has_3d or b'"points3d_m"' in line
                position += len(line)
    except OSError as error:
        raise ValueError(
            f"The annotation file {path} cannot be read ({error.strerror}); "
            "docs/own_data.md describes the layout."
        ) from None
    return offsets, has_3d


def _read_shard(
    source_dir, annotations, skeleton, name, lines, shard_index
) -> Iterator[records.Record | records.SkippedImage]:
    """Yields the records of one shard."""
    del shard_index
    with open(os.path.join(source_dir, annotations), "rb") as file:
        for number, offset in lines:
            file.seek(offset)
            yield _read_line(
                file.readline(), f"{annotations} line {number}", source_dir, skeleton, name
            )


def _read_line(text, where, source_dir, skeleton, name):
    """Turns one line into a record, or into a skipped image."""
    try:
        content = parse_json(text, where, max_bytes=MAX_LINE_BYTES)
    except UnsafeFile as error:
        raise ValueError(
            f"{where} is not JSON ({error}); one object a line, no commas between."
        ) from None
    custom_lines.check_line_keys(content, where)
    try:
        path = image_files.confined_path(source_dir, content["image"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    try:
        image_bytes, header = image_files.read_image(path)
    except image_files.UnusableImage as reason:
        return records.SkippedImage(content["image"], str(reason))
    camera = custom_lines.parse_camera(content, header.width, header.height, where)
    people = [
        custom_lines.parse_person(person, camera, skeleton, f"{where}: people[{i}]")
        for i, person in enumerate(content.get("people", []))
    ]
    return records.Record(
        image_bytes=image_bytes,
        height=header.height,
        width=header.width,
        image_id=content["image"],
        dataset=name,
        intrinsics=camera.intrinsics.astype(np.float32),
        distortion_coeffs=camera.distortion.astype(np.float32),
        extrinsics=camera.extrinsics.astype(np.float32),
        people=people,
    )
