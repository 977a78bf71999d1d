"""Options of the metric-scale losses."""

import dataclasses

from metrabs_like.geometry.camera import CropGrid
from metrabs_like.geometry.tracing import TracedByValue


@dataclasses.dataclass(frozen=True)
class Metric3DLossConfig(TracedByValue):
    """Options of `losses.metric3d`; all defaults are those of the released code.

    Attributes:
      grid: CropGrid of the crops.
      box_size_m: metres that the crop's side stands for in the 2D loss.
      absloss_factor: weight of the absolute loss.
      absloss_start_step: step from which on the absolute loss has a gradient.
      nll_loss: whether the predicted uncertainty enters, as a negative log-likelihood.
      beta_nll: exponent of the uncertainty's weight (Seitzer et al., ICLR 2022); 0 switches the
        weight off.
      charb_eps: smoothing of the length, m (or unitless, after the division by the uncertainty).
      fix_uncert_factor: whether the log is scaled by 1/sqrt(D), the correct normalization of the
        density, and not by sqrt(D).
    """

    grid: CropGrid = CropGrid()
    box_size_m: float = 2.2
    absloss_factor: float = 0.1
    absloss_start_step: int = 5000
    nll_loss: bool = True
    beta_nll: float = 1.0
    charb_eps: float = 0.0
    fix_uncert_factor: bool = False

    def __post_init__(self):
        if self.box_size_m <= 0:
            raise ValueError(f"box_size_m={self.box_size_m}: must be positive, in metres.")
        for name in ("absloss_factor", "absloss_start_step", "beta_nll", "charb_eps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative.")
