"""The settings of a training run.

Conventions: `step` counts optimizer updates; a batch is what one update of one process consumes; a
micro-batch is one of its `grad_accum_steps` equal parts.
"""

from __future__ import annotations

import dataclasses
import json

PRECISIONS = ("float32", "bfloat16", "float16")
SCHEDULES = ("two_phase", "cosine", "steps", "constant")
_SHARES = ("phase1_fraction", "phase1_factor", "phase2_factor", "final_factor", "drop_factor")
DISTRIBUTIONS = ("none", "mirrored", "multi_worker")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that the training loop and step read; a default is written only here.

    Attributes:
      steps: number of optimizer updates of the whole run (a resumed run counts from its start).
      learning_rate: base rate after warm-up (1e-4: ours; the short demo uses more).
      schedule: `two_phase` (exponential, drop, exponential), `cosine`, `steps` (drops at
        `drop_steps`) or `constant`.
      warmup_steps: updates of linear warm-up from 0 (ours).
      phase1_fraction: share of `steps` spent in the first phase of `two_phase` (ours).
      phase1_factor: rate at the end of phase 1, relative to `learning_rate` (ours).
      phase2_factor: rate at the start of phase 2, relative to `learning_rate` (ours).
      final_factor: rate at the last step of `two_phase` and `cosine`, relative (ours).
      drop_steps: updates at which the rate of `steps` drops, ascending.
      drop_factor: by this factor.
      optimizer: a name for `training.optimizers.make_optimizer`: `adamw`, `adam`, `sgd`, ...,
        `tfa.NAME` in the addons lane.
      weight_decay: decoupled decay of kernels (vectors, i.e. biases and norms, are exempt);
        multiplied by the learning rate, as in Keras. Used by optimizers that know one.
      momentum: for `sgd` and `rmsprop`.
      backbone_lr_factor: learning rate of the backbone relative to the rest.
      grad_accum_steps: micro-batches per update; memory grows with the micro-batch alone.
      clip_norm: global norm to which the update's gradient is clipped; 0 means no clipping.
      ema_momentum: of the moving average of the weights; 0 means no average.
      ema_warmup: start the average with momentum `(1 + n) / (10 + n)` so that a short run forgets
        its initial weights (ours, as in common practice).
      precision: `float32`, `bfloat16` or `float16` (with dynamic loss scaling). Build the model
        inside `training.precision.precision_scope(config.precision)`.
      jit_compile: compile the whole step with XLA; one replica only.
      distribution: `none`, `mirrored` (all local devices) or `multi_worker` (`TF_CONFIG`).
      seed: of every random draw of the step; the train command also seeds initial weights and the
        order of the data with it.
      log_every: updates between log rows (and host synchronizations).
      checkpoint_every: updates between checkpoints; 0 means only at the end.
      checkpoints_kept: how many checkpoints stay on disk.
      max_consecutive_skips: stop with an error after so many updates in a row were non-finite or
        empty.
    """

    steps: int = 10_000
    learning_rate: float = 1e-4
    schedule: str = "two_phase"
    warmup_steps: int = 0
    phase1_fraction: float = 0.92
    phase1_factor: float = 1 / 3
    phase2_factor: float = 1 / 30
    final_factor: float = 1 / 100
    drop_steps: tuple[int, ...] = ()
    drop_factor: float = 0.1
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    momentum: float = 0.9
    backbone_lr_factor: float = 1.0
    grad_accum_steps: int = 1
    clip_norm: float = 0.0
    ema_momentum: float = 0.999
    ema_warmup: bool = True
    precision: str = "float32"
    jit_compile: bool = False
    distribution: str = "none"
    seed: int = 0
    log_every: int = 100
    checkpoint_every: int = 1000
    checkpoints_kept: int = 3
    max_consecutive_skips: int = 100

    def __post_init__(self):
        self._check_choices()
        self._check_ranges()
        if self.jit_compile and self.distribution != "none":
            raise ValueError(
                f"jit_compile=True with distribution={self.distribution!r}: XLA of the whole step "
                "works on one replica only; set jit_compile=False or distribution='none'."
            )

    def _check_choices(self):
        choices = dict(precision=PRECISIONS, schedule=SCHEDULES, distribution=DISTRIBUTIONS)
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field}={value!r}: use one of {', '.join(allowed)}.")
        if not self.optimizer:
            raise ValueError("optimizer='': name one, for example 'adamw'.")

    def _check_ranges(self):
        at_least = dict(
            steps=1,
            learning_rate=0,
            warmup_steps=0,
            weight_decay=0,
            backbone_lr_factor=0,
            grad_accum_steps=1,
            clip_norm=0,
            log_every=1,
            checkpoint_every=0,
            checkpoints_kept=1,
            max_consecutive_skips=1,
        )
        for field, low in at_least.items():
            value = getattr(self, field)
            if not value >= low:
                raise ValueError(f"{field}={value}: must be at least {low}.")
        for field in _SHARES:
            value = getattr(self, field)
            if not 0 < value <= 1:
                raise ValueError(f"{field}={value}: must be above 0 and at most 1.")
        if (
            list(self.drop_steps) != sorted(set(self.drop_steps))
            or min(self.drop_steps, default=1) < 1
        ):
            raise ValueError(f"drop_steps={self.drop_steps}: must be ascending and at least 1.")
        if bool(self.drop_steps) != (self.schedule == "steps"):
            raise ValueError(
                f"drop_steps={self.drop_steps} with schedule={self.schedule!r}: the schedule "
                "'steps' needs them, the others do not read them."
            )
        for field in ("ema_momentum", "momentum"):
            value = getattr(self, field)
            if not 0 <= value < 1:
                raise ValueError(f"{field}={value}: must be at least 0 and below 1.")

    @property
    def is_loss_scaled(self) -> bool:
        """Whether the loss is scaled, which only gradients in float16 need."""
        return self.precision == "float16"

    def to_json(self) -> str:
        """Returns the settings as JSON text, one line a field."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Reads what `to_json` wrote.

        Raises:
          ValueError: for a field that does not exist, naming it.
        """
        values = json.loads(text)
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown training setting(s) {unknown}: remove or correct them.")
        if "drop_steps" in values:
            values["drop_steps"] = tuple(values["drop_steps"])
        return cls(**values)
