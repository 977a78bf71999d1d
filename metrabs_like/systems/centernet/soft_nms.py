"""Soft non-maximum suppression of people with everything that belongs to them.

Conventions: boxes x1 y1 x2 y2 in px, both corners inside (a width is x2 - x1 + 1, as in the
release). Fixed shapes: what is kept stands first, and its number is told.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes

METHODS = ("gaussian", "linear", "hard")


def soft_nms(
    rows,
    is_valid=None,
    *,
    method="gaussian",
    sigma=0.5,
    overlap_threshold=0.5,
    score_threshold=0.001,
):
    """Lowers the scores of people whose boxes overlap those of surer ones.

    Args:
      rows: float `[B, N, C]`: box, score, then whatever belongs to the person: 39 columns of the
        released code with 17 joints, 56 with their scores.
      is_valid: bool `[B, N]`, rows that exist; None for all.
      method: see `soft_nms_order`, as the rest.
      sigma: of "gaussian".
      overlap_threshold: of "linear" and "hard".
      score_threshold: rows below it after a reduction are dropped.

    Returns:
      (rows float32 `[B, N, C]` in descending order of their new scores, zeros after the kept ones;
      counts int32 `[B]` of the kept ones).

    Raises:
      ValueError: on an unknown method, or if shapes disagree.

    Gradient: none is wanted.

    References:
      Bodla et al., Soft-NMS, ICCV 2017; released code of Objects as Points, `soft_nms_39`. It mixes
      the numbers of dropped rows with those of others behind the kept ones, and moves no column
      beyond the 39th; here a row stays one.
    """
    rows = as_float(rows)
    check_shapes(rows=(rows, "B N C"))
    order, scores, counts = soft_nms_order(
        rows[..., :4],
        rows[..., 4],
        is_valid,
        method=method,
        sigma=sigma,
        overlap_threshold=overlap_threshold,
        score_threshold=score_threshold,
    )
    chosen = tf.gather(rows, order, batch_dims=1)
    chosen = tf.concat([chosen[..., :4], scores[..., tf.newaxis], chosen[..., 5:]], axis=-1)
    return tf.where(_is_kept(order, counts)[..., tf.newaxis], chosen, 0.0), counts


def soft_nms_order(
    boxes,
    scores,
    is_valid=None,
    *,
    groups=None,
    method="gaussian",
    sigma=0.5,
    overlap_threshold=0.5,
    score_threshold=0.001,
):
    """Chooses people one by one, the surest first, and lowers the others' scores.

    Args:
      boxes: float `[B, N, 4]`, x1 y1 x2 y2, px.
      scores: float `[B, N]`.
      is_valid: bool `[B, N]`, or None for all; what is not finite is never valid.
      groups: integers `[B, N]`; only boxes of one group reduce each other. None: all are one group.
      method: "gaussian": scores are multiplied by exp(-IoU^2 / sigma); "linear": by 1 - IoU where
        it is above the threshold; "hard": by 0 there.
      sigma: of "gaussian" (released code).
      overlap_threshold: of "linear" and "hard", in IoU (released code).
      score_threshold: a row that overlaps a chosen one and falls below this is dropped (released
        code); a low score alone does not drop a row.

    Returns:
      (order int32 `[B, N]`: rows in the order of choice, then the others; new scores float32
      `[B, N]` in this order, 0 for the others; counts int32 `[B]` of chosen rows). The order among
      equal scores is not specified.

    Raises:
      ValueError: on an unknown method, or if shapes disagree.

    Gradient: none is wanted. N rows take N steps, of O(B N) each; O(B N^2) memory.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    boxes, scores = tf.stop_gradient(as_float(boxes)), tf.stop_gradient(as_float(scores))
    is_valid = tf.ones(tf.shape(scores), tf.bool) if is_valid is None else as_mask(is_valid)
    check_shapes(boxes=(boxes, "B N 4"), scores=(scores, "B N"), is_valid=(is_valid, "B N"))
    is_valid &= tf.math.is_finite(scores) & tf.reduce_all(tf.math.is_finite(boxes), axis=-1)
    boxes = tf.where(is_valid[..., tf.newaxis], boxes, 0.0)
    overlaps = _overlaps(boxes)
    if groups is not None:
        groups = tf.convert_to_tensor(groups)
        is_same = tf.equal(groups[:, :, tf.newaxis], groups[:, tf.newaxis])
        overlaps = tf.where(is_same, overlaps, 0.0)
    factors = _factors(overlaps, method, sigma, overlap_threshold)
    scores, ranks = _chosen(
        tf.where(is_valid, scores, 0.0), is_valid, factors, overlaps > 0, score_threshold
    )
    n_rows = tf.shape(scores)[1]
    counts = tf.reduce_sum(tf.cast(ranks < n_rows, tf.int32), axis=1)
    order = tf.argsort(ranks, axis=1, stable=True)
    scores = tf.gather(scores, order, batch_dims=1)
    return order, tf.where(_is_kept(order, counts), scores, 0.0), counts


def _chosen(scores, is_alive, factors, is_touching, score_threshold):
    """Runs the choices; returns the reduced scores and each row's rank, N for those not chosen."""
    n_rows = tf.shape(scores)[1]
    ranks = tf.fill(tf.shape(scores), n_rows)

    def body(step, scores, is_alive, ranks):
        best = tf.argmax(tf.where(is_alive, scores, scores.dtype.min), axis=1)
        is_best = tf.one_hot(best, n_rows, on_value=True, off_value=False) & is_alive
        has_one = tf.reduce_any(is_alive, axis=1, keepdims=True)
        is_alive &= ~is_best
        is_reached = tf.gather(is_touching, best, batch_dims=1) & is_alive & has_one
        lowered = scores * tf.gather(factors, best, batch_dims=1)
        scores = tf.where(is_reached, lowered, scores)
        is_alive &= ~(is_reached & (scores < score_threshold))
        return step + 1, scores, is_alive, tf.where(is_best, step, ranks)

    start = (tf.constant(0), scores, is_alive, ranks)
    _, scores, _, ranks = tf.while_loop(
        lambda _, __, is_alive, ___: tf.reduce_any(is_alive),
        body,
        start,
        maximum_iterations=n_rows,
    )
    return scores, ranks


def _overlaps(boxes):
    """Intersection over union of all pairs, `[B, N, N]`; 0 where they do not touch."""
    one, other = boxes[:, :, tf.newaxis], boxes[:, tf.newaxis]
    corner1 = tf.maximum(one[..., :2], other[..., :2])
    corner2 = tf.minimum(one[..., 2:], other[..., 2:])
    common = tf.reduce_prod(tf.maximum(corner2 - corner1 + 1.0, 0.0), axis=-1)
    areas = tf.reduce_prod(boxes[..., 2:] - boxes[..., :2] + 1.0, axis=-1)
    union = areas[:, :, tf.newaxis] + areas[:, tf.newaxis] - common
    return tf.math.divide_no_nan(common, union)


def _factors(overlaps, method, sigma, threshold):
    """What scores are multiplied by, given the overlap with a chosen box."""
    if method == "gaussian":
        return tf.exp(-tf.square(overlaps) / sigma)
    reduced = 1.0 - overlaps if method == "linear" else tf.zeros_like(overlaps)
    return tf.where(overlaps > threshold, reduced, 1.0)


def _is_kept(order, counts):
    return tf.range(tf.shape(order)[1]) < counts[:, tf.newaxis]
