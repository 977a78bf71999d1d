"""From the network's head to heatmap coordinates, and from those to absolute points.

Conventions: heads are `[B, P, H, W, 2 + depth]`: channel 0 uncertainty, 1 the metric x-y heatmap,
2.. the 2.5D volume.
"""

import tensorflow as tf

from metrabs_like.geometry import absolute
from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.geometry.heatmap import decode_heatmap, soft_argmax, softmax_over

# Optimizer update from which on training reconstructs under full perspective (released code).
FULL_PERSPECTIVE_START_STEP = 500


def decode_head(logits, *, uncert_bias=0.0, uncert_bias2=0.001):
    """Decodes the head to coordinates and uncertainties.

    Args:
      logits: float `[B, P, H, W, 2 + depth]`; see the module for the channels.
      uncert_bias: Python float, added before the softplus (0: released code).
      uncert_bias2: Python float, m, the smallest uncertainty (0.001: released code).

    Returns:
      (coords2d `[B, P, 2]`, coords3d `[B, P, 3]`, uncertainties `[B, P]` m), coordinates 0..1:
      coords2d is x, y of the volume; coords3d is x, y of the metric heatmap and z of the volume.

    Raises:
      ValueError: if there is no depth channel.

    Gradient: the uncertainty has none into the volume, whose marginal only weighs it.

    References:
      Released code of Neural Localizer Fields.
    """
    logits = as_float(logits)
    check_shapes(logits=(logits, "B P H W C"))
    if logits.shape[-1] is not None and logits.shape[-1] < 3:
        raise ValueError(
            f"`logits` has {logits.shape[-1]} channels: pass 2 + depth, at least 3 of them."
        )
    volume = softmax_over(logits[..., 2:], [2, 3, 4])
    # The volume's x, y and z, and the weight of each pixel, all come from its two marginals.
    over_pixels = tf.reduce_sum(volume, axis=4)
    over_depth = tf.reduce_sum(volume, axis=[2, 3])
    coords2d = decode_heatmap(over_pixels, [3, 2])
    z = decode_heatmap(over_depth, [2])
    coords3d = tf.concat([soft_argmax(logits[..., 1], [3, 2]), z], axis=-1)
    evidence = tf.reduce_sum(logits[..., 0] * tf.stop_gradient(over_pixels), axis=[2, 3])
    return coords2d, coords3d, tf.nn.softplus(evidence + uncert_bias) + uncert_bias2


def decode_features(features, weights, *, uncert_bias=0.0, uncert_bias2=0.001):
    """Decodes backbone features with one weight vector per point (a localizer field's output).

    Args:
      features: float `[B, H, W, C]`.
      weights: `[B, P, (C + 1) * (2 + depth)]`, or `[P, ...]` shared by all examples; row C of each
        point is the bias.
      uncert_bias: see `decode_head`.
      uncert_bias2: see `decode_head`.

    Returns:
      As `decode_head`.

    Raises:
      ValueError: if the weights do not divide into C + 1 rows, or dimensions disagree.

    Gradient: to both arguments.

    References:
      Sarandi and Pons-Moll, Neural Localizer Fields, NeurIPS 2024; released code.
    """
    features = as_float(features)
    weights = as_float(weights, features)
    n_rows = features.shape[-1] + 1
    if weights.shape[-1] % n_rows:
        raise ValueError(
            f"`weights` has {weights.shape[-1]} numbers per point, no multiple of {n_rows}: pass "
            f"(channels + 1) * (2 + depth), the features have {n_rows - 1} channels."
        )
    per_example = weights.shape.rank == 3
    check_shapes(
        features=(features, "B H W C"), weights=(weights, "B P N" if per_example else "P N")
    )
    n_channels = weights.shape[-1] // n_rows
    matrix = tf.reshape(weights, tf.concat([tf.shape(weights)[:-1], [n_rows, n_channels]], 0))
    equation = "bhwc,bpcn->bphwn" if per_example else "bhwc,pcn->bphwn"
    logits = tf.einsum(equation, features, matrix[..., :-1, :])
    logits += matrix[..., tf.newaxis, -1:, :]
    return decode_head(logits, uncert_bias=uncert_bias, uncert_bias2=uncert_bias2)


def reconstruct_absolute(
    head2d,
    head3d,
    intrinsics,
    mix_3d_inside_fov,
    point_validity_mask=None,
    *,
    grid,
    step,
    full_perspective_start_step=FULL_PERSPECTIVE_START_STEP,
    l2_regularizer=absolute.L2_REGULARIZER,
):
    """Reconstructs absolute points as training does: weak perspective first, then full perspective.

    The weak form has gradients that stay tame while the heads are random; the full one is exact.

    Args:
      head2d: float `[B, P, 2]`, px in the crop.
      head3d: `[B, P, 3]`, m, relative.
      intrinsics: `[B, 3, 3]`.
      mix_3d_inside_fov: scalar or `[B, 1, 1]`; training draws it uniformly from 0..1.
      point_validity_mask: bool `[B, P]` or None.
      grid: CropGrid.
      step: integer or integer tensor, optimizer updates so far.
      full_perspective_start_step: first update under full perspective (500: released code).
      l2_regularizer: see `geometry.absolute.reconstruct_ref_fullpersp`.

    Returns:
      `[B, P, 3]`, m, camera frame. Masking, gradient and errors: see
      `geometry.absolute.reconstruct_absolute`.

    References:
      Released code of Neural Localizer Fields (trainer): borders 1 and 0.55, the choice by the
      mixed point.
    """
    start = tf.cast(full_perspective_start_step, tf.int64)
    return absolute.reconstruct_absolute(
        head2d,
        head3d,
        intrinsics,
        grid=grid,
        mix_3d_inside_fov=mix_3d_inside_fov,
        weak_perspective=tf.cast(step, tf.int64) < start,
        point_validity_mask=point_validity_mask,
        border_factor1=1.0,
        border_factor2=0.55,
        mix_based_on_3d=False,
        l2_regularizer=l2_regularizer,
    )
