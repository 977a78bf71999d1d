"""What a pose estimator must beat: the mean training pose at the depth that the box's height tells.

Conventions: poses in the crop camera's frame (x right, y down, z forward), metres; *angular height*
is the box's height over the focal length, so depth = body height / angular height.
"""

import dataclasses

import numpy as np

from metrabs_like.data.pipeline import PipelineConfig, make_eval_dataset
from metrabs_like.skeletons import Skeleton

_BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class MeanPerson:
    """What the training people are like on average.

    Attributes:
      pose: `[P, 3]`, m: mean of the poses, each relative to the mean of its valid points.
      body_height_m: mean of root depth times angular height of the box.
      n_people: how many people were measured.
    """

    pose: np.ndarray
    body_height_m: float
    n_people: int

    def placed(self, sub_batch, pipeline: PipelineConfig) -> np.ndarray:
        """Puts the mean pose on the crop's axis, which points at the middle of the box.

        Args:
          sub_batch: `box [B, 4]` and `intrinsics [B, 3, 3]` of the pipeline, in evaluation.
          pipeline: how the crops were made.

        Returns:
          float32 `[B, P, 3]`, m, crop camera frame.
        """
        depth = self.body_height_m / angular_heights(sub_batch, pipeline)
        offset = np.stack([np.zeros_like(depth), np.zeros_like(depth), depth], axis=-1)
        return (self.pose + offset[:, np.newaxis]).astype(np.float32)


def measure(
    source: str, pipeline: PipelineConfig, skeleton: Skeleton, max_people: int
) -> MeanPerson:
    """Averages people of a prepared data set with 3D annotations.

    Args:
      source: folder of the data set.
      pipeline: how the crops are made.
      skeleton: of the P points.
      max_people: as many are taken, from the start.

    Raises:
      ValueError: if the data set has no person with a valid 3D point.
    """
    dataset = make_eval_dataset(
        source, "kp3d", pipeline, skeleton=skeleton, batch_size=_BATCH_SIZE
    ).take(-(-max_people // _BATCH_SIZE))
    total, count, heights = 0.0, 0, []
    for batch in dataset.as_numpy_iterator():
        sub_batch = batch["kp3d"]
        valid = sub_batch["point_validity"][..., np.newaxis]
        points = np.where(valid, sub_batch["coords3d_true"], 0.0)
        root = points.sum(axis=1, keepdims=True) / np.maximum(valid.sum(axis=1, keepdims=True), 1)
        total = total + np.where(valid, points - root, 0.0).sum(axis=0)
        count = count + valid.sum(axis=0)
        heights.append(root[:, 0, 2] * angular_heights(sub_batch, pipeline))
    if not heights:
        raise ValueError(
            f"{source} has no person with a valid 3D point: no mean pose to compare to"
        )
    heights = np.concatenate(heights)
    return MeanPerson(total / np.maximum(count, 1), float(heights.mean()), len(heights))


def angular_heights(sub_batch, pipeline: PipelineConfig) -> np.ndarray:
    """Returns the boxes' heights over the focal length `[B]`.

    The crop shows the box's longer side, padded, on `proc_side` pixels; that holds without
    augmentation, and up to the obliqueness of boxes far from the image's centre.
    """
    size = sub_batch["box"][:, 2:]
    focal = sub_batch["intrinsics"][:, 1, 1]
    longer = pipeline.proc_side / (focal * (1 + pipeline.box_padding))
    return longer * size[:, 1] / size.max(axis=1)
