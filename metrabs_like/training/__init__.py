"""The training loop and what it needs; it knows no system."""

from metrabs_like.training.config import TrainConfig
from metrabs_like.training.distribution import make_strategy
from metrabs_like.training.ema import WeightAverage
from metrabs_like.training.loop import Action, TrainSummary, train
from metrabs_like.training.optimizers import make_optimizer
from metrabs_like.training.precision import precision_scope
from metrabs_like.training.step import Objective, TrainStep, make_objective, make_train_step

__all__ = [
    "Action",
    "Objective",
    "TrainConfig",
    "TrainStep",
    "TrainSummary",
    "WeightAverage",
    "make_objective",
    "make_optimizer",
    "make_strategy",
    "make_train_step",
    "precision_scope",
    "train",
]
