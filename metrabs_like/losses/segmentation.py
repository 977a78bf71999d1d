"""Losses of masks: Lovasz hinge and dice.

Conventions: labels 1 person, 0 background, 255 ignored; logits > 0 mean person. Float32.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes
from metrabs_like.losses.terms import LossTerm

#: Label of pixels that count nowhere (released code).
IGNORED = 255
_DICE_EPSILON = 1e-5  # released code of conditional convolutions


def lovasz_hinge(logits, labels, *, symmetric=False):
    """Approximates 1 - intersection over union of a mask by a function with a gradient.

    All pixels are taken together. Errors 1 - logit * (+-1) are sorted from the largest; each is
    penalized by elu(error) + 1, times the change of the Jaccard index if this pixel, too, were
    wrong.

    Args:
      logits: float `[...]`.
      labels: integers `[...]`: 1, 0 or 255.
      symmetric: mean of the losses of person and of background, as for masks of few pixels.

    Returns:
      float32 scalar >= 0; 0 without a pixel that counts.

    Raises:
      ValueError: if the numbers of pixels differ.

    Masking: ignored pixels, NaN or not, influence neither value nor gradient. Gradient: to the
    logits; the order of the errors is taken as constant.

    References:
      Berman et al., The Lovasz-Softmax loss, CVPR 2018, alg. 1; released code of centerpose,
      `SegLoss2` (elu instead of relu; symmetric).
    """
    logits = tf.reshape(as_float(logits), [-1])
    labels = tf.reshape(tf.cast(tf.convert_to_tensor(labels), tf.int32), [-1])
    check_shapes(logits=(logits, "P"), labels=(labels, "P"))
    is_valid = tf.not_equal(labels, IGNORED)
    is_person = tf.equal(labels, 1)
    sign = tf.where(is_person, 1.0, -1.0)
    errors = 1.0 - tf.where(is_valid, logits, 0.0) * sign
    # The sort is stable only in name: any order of equal errors gives the same sum.
    order = tf.argsort(tf.where(is_valid, errors, -tf.float32.max), direction="DESCENDING")
    is_person, is_counted = tf.gather(is_person, order), tf.gather(is_valid, order)
    weights = _jaccard_steps(is_person, is_counted)
    if symmetric:  # the background's errors are the same ones
        weights = 0.5 * (weights + _jaccard_steps(~is_person, is_counted))
    weights = tf.scatter_nd(order[:, tf.newaxis], weights, tf.shape(weights))
    penalties = tf.where(is_valid, tf.nn.elu(errors) + 1.0, 0.0)
    return tf.reduce_sum(penalties * tf.stop_gradient(weights))


def dice_term(logits, labels, is_valid):
    """Averages 1 - dice coefficient over masks.

    The coefficient of one mask is 2 sum(p t) / (sum(p^2) + sum(t^2)).

    Args:
      logits: float `[B, N, H, W]`.
      labels: integers `[B, N, H, W]`: 1, 0 or 255.
      is_valid: bool or 0/1 `[B, N]`, which masks count.

    Returns:
      LossTerm; its count is the number of valid masks.

    Raises:
      ValueError: if shapes disagree.

    Masking: ignored pixels and invalid masks, NaN or not, influence neither value nor gradient.
    Gradient: to the logits.

    References:
      Milletari et al., V-Net, 2016; Tian et al., Conditional Convolutions for Instance
      Segmentation, ECCV 2020, released code.
    """
    logits, is_valid = as_float(logits), as_mask(is_valid)
    labels = tf.cast(tf.convert_to_tensor(labels), tf.int32)
    check_shapes(logits=(logits, "B N H W"), labels=(labels, "B N H W"), is_valid=(is_valid, "B N"))
    is_counted = tf.not_equal(labels, IGNORED) & is_valid[..., tf.newaxis, tf.newaxis]
    # Not counted: a probability and a truth of 0, which add to no sum.
    p = tf.where(is_counted, tf.sigmoid(tf.where(is_counted, logits, 0.0)), 0.0)
    t = tf.cast(is_counted & tf.equal(labels, 1), p.dtype)
    both, sizes = tf.reduce_sum(p * t, [2, 3]), tf.reduce_sum(tf.square(p) + t, [2, 3])
    losses = 1.0 - (2.0 * both) / (sizes + _DICE_EPSILON)
    total = tf.reduce_sum(tf.where(is_valid, losses, 0.0))
    return LossTerm(total, tf.reduce_sum(tf.cast(is_valid, tf.float32)), 1.0)


def _jaccard_steps(is_person, is_counted):
    """By how much 1 - IoU grows when one pixel more, in this order, is wrong, `[P]`.

    Written without the difference of two nearly equal indices, which would lose the small steps of
    millions of pixels in rounding. Pixels that do not count stand last and get 0.
    """
    is_person = tf.cast(is_person & is_counted, tf.float64)  # sums beyond 2^24 stay exact
    n_persons = tf.reduce_sum(is_person)
    missed = tf.cumsum(is_person)
    rank = tf.cast(tf.range(1, tf.size(is_person) + 1), tf.float64)
    union = n_persons + rank - missed
    # A missed pixel takes 1 of the intersection, a false one adds 1 to the union.
    false_step = tf.math.divide_no_nan(n_persons - missed, union * (union - 1.0))
    step = tf.where(is_person > 0, tf.math.divide_no_nan(tf.ones_like(union), union), false_step)
    # Without any person the index falls from 1 to 0 with the first false pixel.
    step = tf.where(n_persons > 0, step, tf.cast(tf.equal(rank, 1.0), tf.float64))
    return tf.cast(tf.where(is_counted, step, 0.0), tf.float32)
