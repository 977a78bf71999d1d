"""System `centernet`: from a whole RGB image to its people: boxes, joints, masks, in one pass.

References:
  Zhou, Wang and Kraehenbuehl, Objects as Points, 2019; Yu et al., Deep Layer Aggregation, CVPR
  2018; Zhu et al., Deformable ConvNets v2, CVPR 2019; Tian et al., Conditional Convolutions for
  Instance Segmentation, ECCV 2020 (the masks).
"""

from metrabs_like.systems.centernet.codec import decode, encode_targets
from metrabs_like.systems.centernet.config import Config, tiny_config
from metrabs_like.systems.centernet.drawing import draw
from metrabs_like.systems.centernet.evaluation import evaluate
from metrabs_like.systems.centernet.initialization import InitReport, initialize_from
from metrabs_like.systems.centernet.loss import compute_loss, expected_counts, loss_terms
from metrabs_like.systems.centernet.model import build_model
from metrabs_like.systems.centernet.predictor import evaluation_finder, make_predictor
from metrabs_like.systems.centernet.preparation import check_source, prepare
from metrabs_like.systems.centernet.preset import load_preset, preset_names, save_preset

__all__ = [
    "Config",
    "InitReport",
    "build_model",
    "check_source",
    "compute_loss",
    "decode",
    "draw",
    "encode_targets",
    "evaluate",
    "evaluation_finder",
    "expected_counts",
    "initialize_from",
    "load_preset",
    "loss_terms",
    "make_predictor",
    "prepare",
    "preset_names",
    "save_preset",
    "tiny_config",
]
