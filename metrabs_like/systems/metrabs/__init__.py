"""System `metrabs`: from an RGB crop and its intrinsics to absolute 3D points in metres.

References:
  Sarandi et al., MeTRAbs: Metric-Scale Truncation-Robust Heatmaps for Absolute 3D Human Pose
  Estimation, T-BIOM 2021; Sarandi and Pons-Moll, Neural Localizer Fields, NeurIPS 2024 (losses and
  uncertainty).
"""

from metrabs_like.systems.metrabs.canonical import surface_to_canonical
from metrabs_like.systems.metrabs.codec import decode, encode_targets
from metrabs_like.systems.metrabs.config import Config, tiny_config
from metrabs_like.systems.metrabs.decoding import (
    decode_features,
    decode_head,
    reconstruct_absolute,
)
from metrabs_like.systems.metrabs.drawing import draw
from metrabs_like.systems.metrabs.evaluation import collect, evaluate
from metrabs_like.systems.metrabs.field import LocalizerField
from metrabs_like.systems.metrabs.head import HeatmapDecoder
from metrabs_like.systems.metrabs.initialization import InitReport, initialize_from
from metrabs_like.systems.metrabs.loss import compute_loss, expected_counts, loss_terms
from metrabs_like.systems.metrabs.model import build_model
from metrabs_like.systems.metrabs.points import joint_network, point_predictor, predict
from metrabs_like.systems.metrabs.predictor import make_predictor
from metrabs_like.systems.metrabs.preparation import prepare
from metrabs_like.systems.metrabs.preset import load_preset, preset_names, save_preset
from metrabs_like.systems.metrabs.supervision import check_source

__all__ = [
    "Config",
    "HeatmapDecoder",
    "InitReport",
    "LocalizerField",
    "build_model",
    "check_source",
    "collect",
    "compute_loss",
    "decode",
    "decode_features",
    "decode_head",
    "draw",
    "encode_targets",
    "evaluate",
    "expected_counts",
    "initialize_from",
    "joint_network",
    "load_preset",
    "loss_terms",
    "make_predictor",
    "point_predictor",
    "predict",
    "prepare",
    "preset_names",
    "reconstruct_absolute",
    "save_preset",
    "surface_to_canonical",
    "tiny_config",
]
