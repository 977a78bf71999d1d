"""Pose metrics; each names its protocol."""

from metrabs_like.metrics import coco_ap, pose3d, published
from metrabs_like.metrics.accumulate import MetricSums

__all__ = ["MetricSums", "coco_ap", "pose3d", "published"]
