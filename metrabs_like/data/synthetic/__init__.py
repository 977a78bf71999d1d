"""Procedural people with exact 3D labels: the embedded data set."""

from metrabs_like.data.synthetic.config import SKELETON_NAME, SyntheticConfig
from metrabs_like.data.synthetic.generator import generate_image, generate_shard

__all__ = ["SKELETON_NAME", "SyntheticConfig", "generate_image", "generate_shard"]
