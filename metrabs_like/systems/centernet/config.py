"""Configuration of the `centernet` system: one frozen dataclass, from flags or JSON.

Conventions: image sizes in pixels; the *input* is what the network sees, the *map* is its output,
`down_ratio` times smaller.
"""

import dataclasses
import functools
import math

from metrabs_like import skeletons
from metrabs_like.geometry.affine import INPUT_STRIDE
from metrabs_like.geometry.tracing import TracedByValue
from metrabs_like.training.json_config import JsonConfig, check_types

BACKBONES = ("dla34", "resnet18", "tiny")
SEGMENTATIONS = ("none", "1x1", "3x3")
SEG_LOSSES = ("lovasz", "dice")
REGRESSION_LOSSES = ("l1", "sl1")
_INTEGERS = {
    "proc_side": INPUT_STRIDE,
    "head_width": 0,
    "max_objects": 1,
    "hm_gauss": 1,
    "seg_channels": 1,
    "top_k": 1,
}
_NOT_NEGATIVE = (
    *(f"{name}_weight" for name in ("hm", "wh", "off", "hp", "hm_hp", "seg")),
    "joint_threshold",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TracedByValue, JsonConfig):
    """What the network estimates, how large it is and how its losses are weighted.

    Two configs of equal values are one to `tf.function`. Defaults without a note are those of the
    released code (multi_pose, DLA-34).

    Attributes:
      backbone: "dla34", "resnet18" (with up-convolutions) or "tiny" (ours, for tests and demos).
      deformable: whether DLA-34's up-sampling convolutions are deformable; without, the network
        consists of plain convolutions and can leave TensorFlow. Other backbones have none.
      compile_deformable: whether XLA compiles the deformable convolutions, about a second for each
        of them and every new image size; without, they are slower and need about twice the
        memory, but images of many sizes start at once (ours).
      skeleton: joint set of the people.
      proc_side: side of the square input of training, px, a multiple of 32. Images of other sizes
        are an ordinary input of the trained network.
      down_ratio: input pixels per cell of the map: 2, 4, 8 or 16.
      head_width: channels of the 3x3 convolution of each head, 0 for heads of one 1x1 convolution.
      width: factor on the channels of the tiny backbone and of resnet18's up-sampling (ours);
        dla34 does not read it.
      weights: "" (random) or a PyTorch file with DLA-34's ImageNet weights.
      max_objects: people of an image that are trained on, in the order of annotation.
      reg_offset: whether a head tells the part of a centre below one cell.
      hm_hp: whether a head finds joints of their own, which refine those of the people.
      reg_hp_offset: whether a head tells the part of those joints below one cell.
      dense_hp: whether joints are regressed everywhere near the centre, not in one cell.
      mse_loss: heat maps of a fixed Gaussian (of sigma `hm_gauss`) and a squared joint loss.
      hm_gauss: standard deviation of the Gaussians with `mse_loss`, cells.
      segmentation: "none", or the size of the convolution that each person's centre predicts for
        its mask: "1x1" or "3x3".
      seg_channels: channels of the features that the predicted convolution reads.
      seg_loss: loss of the masks: "lovasz" (the released one, of all masks together) or "dice" (of
        each mask).
      regression_loss: "l1", or "sl1" (smooth): of boxes and offsets; that of joints stays L1.
      hm_weight: weight of the centres' loss.
      wh_weight: weight of the boxes' loss.
      off_weight: weight of the offsets' losses, of centres and joints.
      hp_weight: weight of the regressed joints' loss.
      hm_hp_weight: weight of the joint heat maps' loss.
      seg_weight: weight of the masks' loss.
      top_k: people and, per joint, joint candidates that are decoded.
      joint_threshold: only candidates of a higher score move a joint.
      photometric: whether training images get the colour augmentation.

    Raises:
      ValueError: naming the field, its value and what it may be.
    """

    backbone: str = "dla34"
    deformable: bool = True
    compile_deformable: bool = True
    skeleton: str = "coco_17"
    proc_side: int = 512
    down_ratio: int = 4
    head_width: int = 256
    width: float = 1.0
    weights: str = ""
    max_objects: int = 32
    reg_offset: bool = True
    hm_hp: bool = True
    reg_hp_offset: bool = True
    dense_hp: bool = False
    mse_loss: bool = False
    hm_gauss: int = 2
    segmentation: str = "none"
    seg_channels: int = 48
    seg_loss: str = "lovasz"
    regression_loss: str = "l1"
    hm_weight: float = 1.0
    wh_weight: float = 0.1
    off_weight: float = 1.0
    hp_weight: float = 1.0
    hm_hp_weight: float = 1.0
    seg_weight: float = 1.0
    top_k: int = 100
    joint_threshold: float = 0.1
    photometric: bool = True

    def __post_init__(self):
        check_types(self)
        self._check_choices()
        self._check_numbers()
        _ = self.joints  # an unknown skeleton fails here, with the message of the lookup

    def _check_choices(self):
        choices = {
            "backbone": BACKBONES,
            "down_ratio": (2, 4, 8, 16),
            "segmentation": SEGMENTATIONS,
            "seg_loss": SEG_LOSSES,
            "regression_loss": REGRESSION_LOSSES,
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                names = ", ".join(map(str, allowed))
                raise ValueError(f"{field}={value!r}: choose one of {names}")
        if self.weights and self.backbone != "dla34":
            raise ValueError(
                f"weights={self.weights!r}: only backbone='dla34' reads a PyTorch file, this is "
                f"{self.backbone!r}; leave it empty"
            )

    def _check_numbers(self):
        for field, minimum in _INTEGERS.items():
            value = getattr(self, field)
            if value < minimum:
                raise ValueError(f"{field}={value!r}: must be an integer >= {minimum}")
        if self.proc_side % INPUT_STRIDE:
            raise ValueError(f"proc_side={self.proc_side}: must be a multiple of {INPUT_STRIDE}")
        for field in _NOT_NEGATIVE:
            value = getattr(self, field)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{field}={value}: must be finite and >= 0")
        if not (math.isfinite(self.width) and self.width > 0):
            raise ValueError(f"width={self.width}: must be finite and > 0")

    @functools.cached_property
    def joints(self):
        """The `Skeleton` of the people, joints in the output's order."""
        return skeletons.get(self.skeleton)

    @property
    def n_joints(self):
        """Number of joints J of a person."""
        return self.joints.n_joints

    @property
    def map_side(self):
        """Side of the map in training, cells."""
        return self.proc_side // self.down_ratio

    @property
    def n_seg_weights(self):
        """Numbers of the convolution that each centre predicts; 0 without segmentation."""
        taps = {"none": 0, "1x1": 1, "3x3": 9}[self.segmentation]
        return taps * self.seg_channels

    @property
    def heads(self):
        """Dict name -> channels of the network's outputs, in the released order."""
        heads = {"hm": 1, "wh": 2, "hps": 2 * self.n_joints}
        if self.reg_offset:
            heads["reg"] = 2
        if self.hm_hp:
            heads["hm_hp"] = self.n_joints
            if self.reg_hp_offset:
                heads["hp_offset"] = 2
        if self.n_seg_weights:
            heads |= {"seg_feat": self.seg_channels, "seg": self.n_seg_weights}
        return heads

    def pipeline_fields(self):
        """The fields of `data.whole_images.WholeImageConfig` that the model decides."""
        return {
            "proc_side": self.proc_side,
            "max_objects": self.max_objects,
            "with_masks": self.n_seg_weights > 0,
        }


def tiny_config():
    """Returns the smallest useful config: tests and first steps."""
    return Config(
        backbone="tiny",
        proc_side=64,
        head_width=16,
        width=0.25,
        max_objects=8,
        top_k=8,
        photometric=False,
    )
