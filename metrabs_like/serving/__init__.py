"""People and their poses in whole photographs, in process or as a SavedModel."""

from metrabs_like.serving.boxes import CropPredictor, crop_predictor
from metrabs_like.serving.detection import PersonDetector
from metrabs_like.serving.export import save
from metrabs_like.serving.multiperson import PosePredictor

__all__ = ["CropPredictor", "PersonDetector", "PosePredictor", "crop_predictor", "save"]
