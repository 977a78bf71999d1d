"""Configuration of the `metrabs` system: one frozen dataclass, from flags or JSON.

Conventions: lengths in metres, image sizes in pixels, steps in optimizer updates.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

from metrabs_like import skeletons
from metrabs_like.data.body_models import get_body_model
from metrabs_like.data.dataset_info import KINDS
from metrabs_like.geometry.camera import CropGrid
from metrabs_like.geometry.tracing import TracedByValue
from metrabs_like.layers import BACKBONES
from metrabs_like.losses.metric3d import Metric3DLossConfig
from metrabs_like.training.json_config import JsonConfig, check_types

_STRIDES = (8, 16, 32)
_HEADS = ("fixed", "field")
_FIELD_SIZES = (
    "n_surface_points",
    "field_link_dim",
    "field_width",
    "field_frequencies",
    "field_bandwidth",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TracedByValue, JsonConfig):
    """What the network estimates, how large it is and how its losses are weighted.

    Two configs of equal values are one to `tf.function`. Defaults without a note are those of the
    released code.

    Attributes:
      backbone: name in `layers.BACKBONES`.
      skeleton: joint set of the output: a name, names joined by "+", or a .json file (what it
        holds is kept, so that the config needs the file no more).
      proc_side: side of the square crop, px, a multiple of `stride`.
      stride: pixels per feature: 8, 16 or 32.
      centered_stride: whether a feature stands for the middle of its cell.
      depth: number of depth bins of the 2.5D heatmap.
      box_size_m: side of the cube that the metric heatmap spans, m.
      width: factor on the channels of the tiny backbone (ours).
      weights: "" (random), "imagenet" or a weights file for the backbone.
      root_joint: joint to which relative errors refer; "" is the mean of the valid points.
      head: "fixed", one convolution for the skeleton's joints, or "field", whose weights are a
        function of the canonical point, so that any point of the body can be asked for.
      body_model: "procedural" or a file of the user's (SMPL's .pkl or .npz): poses the points of
        kind param, and places surface points on the canonical body. Needed where such sources
        are read, not to use a trained model.
      n_surface_points: points of the surface per example of kinds param and dense (released code:
        1024).
      field_link_dim: channels of the features that the field's head sees (released code: 512).
      field_width: hidden units of the field (ours).
      field_frequencies: number of its Fourier features (ours).
      field_bandwidth: cycles per metre, standard deviation of their frequencies (ours).
      uncert_bias: added to the uncertainty before its softplus.
      uncert_bias2: m, added after it: the smallest uncertainty.
      absloss_factor: weight of the absolute term.
      absloss_start_step: update from which the absolute term has a gradient.
      nll_loss: whether the losses are likelihoods under the predicted uncertainty.
      beta_nll: exponent of the uncertainty that weighs the likelihood.
      charb_eps: epsilon of the Charbonnier norm.
      fix_uncert_factor: whether log(uncertainty) is weighted by 1/sqrt(D), not sqrt(D).
      full_perspective_start_step: update from which the full perspective reconstruction trains.
      loss_factor_param: weight of the terms from body-model parameters.
      loss_factor_kp3d: weight of the terms from 3D annotations.
      loss_factor_dense: weight of the term from surface points marked in the image.
      loss_factor_kp2d: weight of the term from 2D annotations.
      heatmap_loss_factor: weight of a loss on the 2D heatmap itself, relative to its kind's weight
        (ours; 0, as the released code): networks that start from random weights learn much faster.
      photometric: whether training crops get the augmentation of their appearance.

    Raises:
      ValueError: naming the field, its value and what it may be.
    """

    backbone: str = "tiny"
    skeleton: str | skeletons.Skeleton = "smpl_24+coco_17"
    proc_side: int = 256
    stride: int = 32
    centered_stride: bool = True
    depth: int = 8
    box_size_m: float = 2.2
    width: float = 1.0
    weights: str = ""
    root_joint: str = ""
    head: str = "fixed"
    body_model: str = "procedural"
    n_surface_points: int = 128
    field_link_dim: int = 128
    field_width: int = 256
    field_frequencies: int = 64
    field_bandwidth: float = 1.0
    uncert_bias: float = 0.0
    uncert_bias2: float = 0.001
    absloss_factor: float = 0.1
    absloss_start_step: int = 5000
    nll_loss: bool = True
    beta_nll: float = 1.0
    charb_eps: float = 0.0
    fix_uncert_factor: bool = False
    full_perspective_start_step: int = 500
    loss_factor_param: float = 1.0
    loss_factor_kp3d: float = 0.75
    loss_factor_dense: float = 0.05
    loss_factor_kp2d: float = 0.1
    heatmap_loss_factor: float = 0.0
    photometric: bool = True

    def __post_init__(self):
        check_types(self)
        self._check_choices()
        self._check_numbers()
        # an unknown skeleton or root joint fails here, with the message of the lookup
        if isinstance(self.skeleton, Mapping):
            object.__setattr__(self, "skeleton", skeletons.Skeleton.from_dict(self.skeleton))
        elif isinstance(self.skeleton, str) and ".json" in self.skeleton:
            object.__setattr__(self, "skeleton", self.joints)
        _ = self.joints, self.root_index

    def _check_choices(self):
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone={self.backbone!r}: choose one of {', '.join(BACKBONES)}")
        if self.stride not in _STRIDES:
            raise ValueError(f"stride={self.stride}: choose one of {_STRIDES}")
        if self.proc_side < 2 * self.stride or self.proc_side % self.stride:
            raise ValueError(
                f"proc_side={self.proc_side}: must be a multiple of stride={self.stride}, "
                f"at least twice as large"
            )
        if self.head not in _HEADS:
            raise ValueError(f"head={self.head!r}: choose one of {', '.join(_HEADS)}")

    def _check_numbers(self):
        if self.depth < 2:
            raise ValueError(f"depth={self.depth}: at least 2 depth bins are needed")
        for field in ("box_size_m", "width", "uncert_bias2", *_FIELD_SIZES):
            _check_number(field, getattr(self, field), is_zero_allowed=False)
        for field in (
            "absloss_factor",
            "absloss_start_step",
            "beta_nll",
            "charb_eps",
            "full_perspective_start_step",
            *(f"loss_factor_{kind}" for kind in KINDS),
            "heatmap_loss_factor",
        ):
            _check_number(field, getattr(self, field), is_zero_allowed=True)

    @functools.cached_property
    def joints(self):
        """The `Skeleton` of the output, points in the output's order."""
        is_name = isinstance(self.skeleton, str)
        return skeletons.get(self.skeleton) if is_name else self.skeleton

    @functools.cached_property
    def body(self):
        """The `geometry.smpl.BodyModel`; read from its file on first use."""
        return get_body_model(self.body_model)

    @property
    def n_points(self):
        """Number of estimated points P."""
        return self.joints.n_joints

    @property
    def root_index(self):
        """Index of the root joint, -1 for the mean of the valid points."""
        return self.joints.index(self.root_joint) if self.root_joint else -1

    @property
    def grid(self):
        """The `CropGrid` that relates heatmap coordinates and crop pixels."""
        return CropGrid(
            proc_side=self.proc_side, stride=self.stride, centered_stride=self.centered_stride
        )

    @property
    def loss_config(self):
        """The `Metric3DLossConfig` with this config's loss fields."""
        names = {f.name for f in dataclasses.fields(Metric3DLossConfig)} - {"grid"}
        return Metric3DLossConfig(grid=self.grid, **{name: getattr(self, name) for name in names})

    def pipeline_fields(self):
        """The fields of `data.pipeline.PipelineConfig` that the model decides."""
        return {"proc_side": self.proc_side, "n_surface_points": self.n_surface_points}


def tiny_config():
    """Returns the smallest useful config: tests and first steps, a few thousand parameters."""
    return Config(
        skeleton="smpl_24",
        proc_side=64,
        stride=16,
        width=0.25,
        full_perspective_start_step=10,
        absloss_start_step=10,
        photometric=False,
    )


def _check_number(field, value, *, is_zero_allowed):
    """Refuses what is not finite, or negative, or zero where zero makes no sense."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not is_zero_allowed):
        bound = ">= 0" if is_zero_allowed else "> 0"
        raise ValueError(f"{field}={value}: must be finite and {bound}")
