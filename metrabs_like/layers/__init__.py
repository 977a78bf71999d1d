"""Keras layers and backbones that more than one system uses."""

from metrabs_like.layers.backbones import BACKBONES, build_backbone
from metrabs_like.layers.padding import PadToOne, SliceToBatch

__all__ = ["BACKBONES", "PadToOne", "SliceToBatch", "build_backbone"]
