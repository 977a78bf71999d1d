"""Poses of people in whole photographs from a predictor of crops, in process or as a SavedModel."""

from metrabs_like.serving.boxes import CropPredictor, crop_predictor
from metrabs_like.serving.export import save
from metrabs_like.serving.multiperson import PosePredictor

__all__ = ["CropPredictor", "PosePredictor", "crop_predictor", "save"]
