"""What the pipeline of whole images is asked for.

Conventions: px; probabilities and shares 0..1.
"""

import dataclasses

from metrabs_like.data.image_placement import PlacementConfig

_MINIMA = {
    "proc_side": 8,
    "window_side": 8,
    "max_objects": 1,
    "mask_side": 1,
    "shuffle_buffer": 1,
    "shuffle_buffer_mb": 0,
    "prefetch_batches": 0,
    "n_parallel_calls": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeImageConfig:
    """Settings of the pipeline of whole images.

    Attributes:
      proc_side: side of the network's input, px.
      window_side: side of the uint8 window that an input is sampled from, px; 0 takes 1.5
        proc_side.
      max_objects: people of an image that are trained on, in stored order (released code: 32).
      random_crop: crops of random place and scale (0.6 to 1.3); otherwise shift and scale.
      shift: standard deviation of the crop's shift as a share of the image, without `random_crop`.
      scale: standard deviation of the crop's scale, without `random_crop`.
      rotate_probability: share of turned images.
      rotate_degrees: standard deviation of their angle.
      flip_probability: share of mirrored images.
      keep_resolution: evaluate images as large as they are, in inputs of the next multiple of 32,
        and not stretched to `proc_side`.
      with_masks: whether the people's masks come out too.
      mask_side: side of the square that each mask is stretched to, px.
      shuffle_buffer: images in the shuffle buffer at most (it is part of every checkpoint).
      shuffle_buffer_mb: megabytes in the shuffle buffer at most.
      prefetch_batches: batches made ahead.
      n_parallel_calls: threads that decode; 0 takes one a CPU core.
      fast_dct: decode JPEG by the fast inverse DCT (errors of about one grey level).
      skip_corrupt: leave out shards that are missing or differ from their SHA-256 (all are read
        once at the start) instead of stopping.
    """

    proc_side: int = 512
    window_side: int = 0
    max_objects: int = 32
    random_crop: bool = PlacementConfig.random_crop
    shift: float = PlacementConfig.shift
    scale: float = PlacementConfig.scale
    rotate_probability: float = PlacementConfig.rotate_probability
    rotate_degrees: float = PlacementConfig.rotate_degrees
    flip_probability: float = PlacementConfig.flip_probability
    keep_resolution: bool = False
    with_masks: bool = False
    mask_side: int = 64
    shuffle_buffer: int = 2048
    shuffle_buffer_mb: float = 100.0
    prefetch_batches: int = 2
    n_parallel_calls: int = 0
    fast_dct: bool = True
    skip_corrupt: bool = False

    def __post_init__(self):
        if self.window_side == 0:
            object.__setattr__(self, "window_side", self.proc_side * 3 // 2)
        for name, minimum in _MINIMA.items():
            if not getattr(self, name) >= minimum:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {minimum}.")
        _ = self.placement  # checks its fields

    @property
    def placement(self) -> PlacementConfig:
        """Returns how training images are placed."""
        names = [field.name for field in dataclasses.fields(PlacementConfig)]
        return PlacementConfig(**{name: getattr(self, name) for name in names})
