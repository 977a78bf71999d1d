"""Pose metrics; each names its protocol."""

from metrabs_like.metrics import pose3d, published
from metrabs_like.metrics.accumulate import MetricSums

__all__ = ["MetricSums", "pose3d", "published"]
