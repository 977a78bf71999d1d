"""Pictures of found people on their images."""

import numpy as np

from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.evaluation import SCORE_THRESHOLD
from metrabs_like.viz import overlay, palette


def draw(image, decoded, config=None, *, score_threshold=SCORE_THRESHOLD):
    """Draws people with boxes, joints and masks.

    Args:
      image: `[H, W, 3]`, or a batch `[B, H, W, 3]`; uint8, or float in 0..1.
      decoded: of `decode`, in px of the image: `boxes` `[K, 4]`, `scores` `[K]`, `joints2d`
        `[K, J, 2]` and `joint_scores` `[K, J]`, optionally `masks` bool `[K, H, W]`; with a leading
        B for a batch.
      config: `Config`, for joints and edges; None takes the default config's skeleton.
      score_threshold: people of a lower score are left out.

    Returns:
      uint8 picture(s) of the shape of `image`. Joints whose own score is not above the config's
      threshold, or that are not finite, are left out.

    Raises:
      ValueError: if the number of joints is not that of the config's skeleton.
    """
    config = config or Config()
    image = overlay.to_uint8(image)
    decoded = {key: np.asarray(value) for key, value in decoded.items()}
    if decoded["joints2d"].shape[-2] != config.n_joints:
        raise ValueError(
            f"decoded['joints2d'] has {decoded['joints2d'].shape[-2]} joints, but the skeleton "
            f"{config.skeleton!r} has {config.n_joints}; pass the config that the model has."
        )
    if image.ndim == 3:
        return _drawn(image, decoded, config, score_threshold)
    people = [{k: v[i] for k, v in decoded.items()} for i in range(len(image))]
    pictures = [_drawn(*pair, config, score_threshold) for pair in zip(image, people, strict=True)]
    return np.stack(pictures) if pictures else np.zeros(image.shape, np.uint8)


def _drawn(image, people, config, score_threshold):
    """One picture."""
    shown = people["scores"] >= score_threshold
    people = {key: value[shown] for key, value in people.items() if key != "mask_logits"}
    for number, mask in enumerate(people.get("masks", ())):
        color = palette.PERSON_COLORS[number % len(palette.PERSON_COLORS)]
        image = overlay.tinted(image, mask, color)
    return overlay.draw_poses(
        image,
        people["joints2d"],
        config.joints.edges,
        people["boxes"],
        sides=palette.joint_sides(config.joints),
        validity=people["joint_scores"] > config.joint_threshold,
    )
