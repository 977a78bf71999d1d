"""Poses of people in whole photographs from a predictor of crops, in process or as a SavedModel."""

from .boxes import CropPredictor, crop_predictor
from .export import save
from .multiperson import PosePredictor

__all__ = ["CropPredictor", "PosePredictor", "crop_predictor", "save"]
