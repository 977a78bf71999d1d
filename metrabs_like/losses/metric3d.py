"""Losses of metric-scale pose with predicted uncertainty: relative and absolute 3D, 2D.

Conventions: camera frame, metres, pixels of the crop. `inps` and `preds` are mappings. Each loss is
a mean over the valid points of the whole batch; sums and counts are available as `LossTerm`s for
normalization over larger units.

References: released code of Neural Localizer Fields (trainer), itself after Sarandi et al.,
MeTRAbs, T-BIOM 2021.
"""

import tensorflow as tf
from easydict import EasyDict

from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes
from metrabs_like.geometry.camera import MIN_DEPTH_M, pixel_planes, planes_within_fov
from metrabs_like.geometry.tracing import traced_once
from metrabs_like.losses.config import Metric3DLossConfig
from metrabs_like.losses.terms import LossTerm, combine
from metrabs_like.losses.uncertainty import norm_of_square, uncertainty_norm

__all__ = [
    "Metric3DLossConfig",
    "compute_loss_with_2d_gt",
    "compute_loss_with_3d_gt",
    "expected_counts_2d",
    "expected_counts_3d",
    "loss_terms_with_2d_gt",
    "loss_terms_with_3d_gt",
    "stop_grad_before_step",
    "uncertainty_norm",
]

# Ground truth nearer than this decides about neither the absolute nor the 2D loss (released code).
NEAR_M = 0.3
# Ground truth farther than this has its depth error scaled down (released code).
FAR_M = 5.0
# The absolute loss expects this multiple of the predicted uncertainty (released code).
ABS_UNCERT_FACTOR = 4.0
# Border factor of the 2D losses per pixel of the crop (released code): negative, a margin.
FOV_BORDER = -20.0 / 256.0


def stop_grad_before_step(x, step, start_step):
    """Lets a loss count without gradient before a step, and as 0 if it is not finite.

    Args:
      x: scalar float.
      step: scalar integer, optimizer updates so far.
      start_step: scalar integer.

    Returns:
      `x` from `start_step` on, unchanged. Before: its value, 0 where it is not finite.

    Gradient: 1 from `start_step` on, none before.
    """
    x = as_float(x)
    frozen = tf.stop_gradient(x)
    frozen = tf.where(tf.math.is_finite(frozen), frozen, tf.zeros_like(frozen))
    return tf.where(_has_started(step, start_step), x, frozen)


def compute_loss_with_3d_gt(inps, preds, config, step):
    """Computes the losses of absolute predictions against 3D ground truth.

    Args:
      inps: mapping with `coords3d_true` `[B, P, 3]` m, `intrinsics` `[B, 3, 3]`, `root_index`
        (scalar or `[B]`, -1 = mean of the valid points; default -1), `point_validity` bool `[B, P]`
        or None.
      preds: mapping with `coords3d_abs` `[B, P, 3]` m, `uncert` `[B, P]` m or None.
      config: Metric3DLossConfig.
      step: integer or integer tensor, optimizer updates so far.

    Returns:
      (EasyDict(loss3d, loss3d_abs, loss2d) of scalars, total). total = loss3d + loss2d +
      absloss_factor * stop_grad_before_step(loss3d_abs). Nothing valid: all 0.

    Raises:
      ValueError: if a mapping lacks an entry, a root index is out of range, or statically known
        dimensions disagree (unknown ones are checked when run).

    Gradient: to the predictions, 0 at invalid points, where NaN touches nothing. An invalid root is
    used as it is (as the original), unless it is not finite: then the mean replaces it. A
    non-finite value at a valid point makes the total non-finite, where the original turns NaN into
    0.
    """
    tensors = _arguments_3d(inps, preds)
    return _compute_loss_with_3d_gt(*tensors, config, tf.cast(step, tf.int64))


def loss_terms_with_3d_gt(inps, preds, config, step):
    """Computes the parts of `compute_loss_with_3d_gt` as sums and counts.

    Args:
      inps: see `compute_loss_with_3d_gt`.
      preds: see there.
      config: Metric3DLossConfig.
      step: integer or integer tensor, optimizer updates so far.

    Returns:
      {"loss3d", "loss3d_abs", "loss2d": LossTerm}; `combine` of them gives the same total. The gate
      of the absolute loss is already in the term's total.

    Raises:
      ValueError: see `compute_loss_with_3d_gt`. Gradient and masking: see there.
    """
    tensors = _arguments_3d(inps, preds)
    terms = _loss_terms_with_3d_gt(*tensors, config)
    return _gated(terms, config, step)


def expected_counts_3d(inps, config):
    """Counts, from the targets alone, what `loss_terms_with_3d_gt` will count at most.

    Args:
      inps: see `compute_loss_with_3d_gt`.
      config: Metric3DLossConfig.

    Returns:
      {"loss3d", "loss3d_abs", "loss2d": scalar float}. The first two are exact; `loss2d` also
      depends on where the predictions fall, so that this is an upper bound of it.

    Raises:
      ValueError: see `compute_loss_with_3d_gt`.
    """
    true = as_float(_entry(inps, "coords3d_true", "inps"))
    intrinsics = as_float(_entry(inps, "intrinsics", "inps"), true)
    valid = _validity(inps)
    check_shapes(
        coords3d_true=(true, "B P 3"),
        intrinsics=(intrinsics, "B 3 3"),
        point_validity=(valid, "B P"),
    )
    valid = _or_all(valid, true)
    x, y, z = tf.unstack(true, 3, axis=-1)
    is_far_enough = valid & (z > NEAR_M)
    pixels = pixel_planes(x, y, z, intrinsics)
    in_view = is_far_enough & planes_within_fov(*pixels, config.grid, _border(config))
    masks = {"loss3d": valid, "loss3d_abs": is_far_enough, "loss2d": in_view}
    return {name: _count(mask, true.dtype) for name, mask in masks.items()}


def compute_loss_with_2d_gt(inps, preds, config):
    """Computes the reprojection loss of absolute predictions against 2D ground truth.

    Args:
      inps: mapping with `coords2d_true` `[B, P, 2]` px, `intrinsics` `[B, 3, 3]`, `point_validity`
        bool `[B, P]` or None.
      preds: mapping with `coords3d_abs` `[B, P, 3]` m, `uncert` `[B, P]` m or None.
      config: Metric3DLossConfig.

    Returns:
      Scalar; 0 if nothing is valid and in view. There is no depth test (as the original).

    Raises:
      ValueError: if a mapping lacks an entry, or statically known dimensions disagree (unknown ones
        are checked when run).

    Gradient: see `compute_loss_with_3d_gt`.
    """
    return _compute_loss_with_2d_gt(*_arguments_2d(inps, preds), config)


def loss_terms_with_2d_gt(inps, preds, config):
    """Computes `compute_loss_with_2d_gt` as a sum and a count.

    Args:
      inps: see there.
      preds: see there.
      config: Metric3DLossConfig.

    Returns:
      {"loss2d": LossTerm}.

    Raises:
      ValueError: see `compute_loss_with_2d_gt`.
    """
    return _loss_terms_with_2d_gt(*_arguments_2d(inps, preds), config)


def expected_counts_2d(inps, config):
    """Counts, from the targets alone, what `loss_terms_with_2d_gt` will count at most.

    Args:
      inps: see `compute_loss_with_2d_gt`.
      config: Metric3DLossConfig.

    Returns:
      {"loss2d": scalar float}, an upper bound: the mask also depends on where the predictions fall.

    Raises:
      ValueError: see `compute_loss_with_2d_gt`.
    """
    true = as_float(_entry(inps, "coords2d_true", "inps"))
    valid = _validity(inps)
    check_shapes(coords2d_true=(true, "B P 2"), point_validity=(valid, "B P"))
    in_view = planes_within_fov(true[..., 0], true[..., 1], config.grid, _border(config))
    return {"loss2d": _count(_or_all(valid, true) & in_view, true.dtype)}


@traced_once
def _compute_loss_with_3d_gt(true, pred, uncert, intrinsics, root_index, valid, config, step):
    terms = _loss_terms_with_3d_gt(true, pred, uncert, intrinsics, root_index, valid, config)
    losses = EasyDict({name: term.mean() for name, term in terms.items()})
    total, _ = combine(_gated(terms, config, step))
    return losses, total


@traced_once
def _compute_loss_with_2d_gt(true, pred, uncert, intrinsics, valid, config):
    return combine(_loss_terms_with_2d_gt(true, pred, uncert, intrinsics, valid, config))[0]


def _loss_terms_with_3d_gt(true, pred, uncert, intrinsics, root_index, valid, config):
    """Returns the three terms, the absolute one not gated yet."""
    is_root = _root_mask(true, pred, root_index, valid)
    keep = valid | is_root
    true, pred = _safe_planes(true, keep), _safe_planes(pred, keep)
    uncert = _safe_uncert(uncert, valid)
    diff = [t - p for t, p in zip(true, pred, strict=True)]

    square = _centred_square(diff, is_root, valid)
    loss3d = _term(norm_of_square(square, uncert, 3, config), valid, 1.0)

    far_scale = tf.minimum(FAR_M / tf.maximum(tf.abs(true[2]), NEAR_M), 1.0)
    square = diff[0] ** 2 + diff[1] ** 2 + (diff[2] * far_scale) ** 2
    abs_uncert = None if uncert is None else ABS_UNCERT_FACTOR * uncert
    is_far_enough = valid & (true[2] > NEAR_M)
    per_point = norm_of_square(square, abs_uncert, 3, config)
    loss3d_abs = _term(per_point, is_far_enough, config.absloss_factor)

    true2d = pixel_planes(*true, intrinsics)
    seen = is_far_enough & _not_false(pred[2] > MIN_DEPTH_M, pred)
    loss2d = _reprojection_term(true2d, pred, uncert, intrinsics, seen, config)
    return {"loss3d": loss3d, "loss3d_abs": loss3d_abs, "loss2d": loss2d}


def _loss_terms_with_2d_gt(true, pred, uncert, intrinsics, valid, config):
    """Returns the single term of 2D supervision."""
    true2d = [tf.where(valid, plane, tf.zeros([], pred.dtype)) for plane in tf.unstack(true, 2, -1)]
    pred, uncert = _safe_planes(pred, valid), _safe_uncert(uncert, valid)
    return {"loss2d": _reprojection_term(true2d, pred, uncert, intrinsics, valid, config)}


def _reprojection_term(true2d, pred, uncert, intrinsics, mask, config):
    """Returns the 2D term, in metres at the distance where the crop shows the box size."""
    pred2d = pixel_planes(*pred, intrinsics)
    border = _border(config)
    mask &= planes_within_fov(*true2d, config.grid, border)
    mask &= _not_false(planes_within_fov(*pred2d, config.grid, border), pred)
    scale = config.box_size_m / config.grid.proc_side
    square = sum(tf.square((t - p) * scale) for t, p in zip(true2d, pred2d, strict=True))
    return _term(norm_of_square(square, uncert, 2, config), mask, 1.0)


def _not_false(condition, pred):
    """Makes a condition hold for non-finite predictions: they must not hide from the loss."""
    return condition | ~tf.math.is_finite(pred[0] + pred[1] + pred[2])


def _root_mask(true, pred, root_index, valid):
    """Returns bool [B, P], true at each example's usable root if it has one."""
    root_index = tf.reshape(root_index, [-1, 1])
    is_root = tf.range(tf.shape(true)[1])[tf.newaxis] == root_index
    is_finite = tf.math.is_finite(tf.reduce_sum(true, -1) + tf.reduce_sum(pred, -1))
    return is_root & (valid | is_finite)


def _centred_square(diff, is_root, valid):
    """Returns the squared norm of the differences, less the root's or, without a root, the mean."""
    has_root = tf.reduce_any(is_root, axis=1, keepdims=True)
    share = tf.cast(tf.where(has_root, is_root, valid), diff[0].dtype)
    share = tf.math.divide_no_nan(share, tf.reduce_sum(share, 1, keepdims=True))
    centred = (d - tf.reduce_sum(share * d, 1, keepdims=True) for d in diff)
    return sum(tf.square(d) for d in centred)


def _safe_planes(coords3d, keep):
    """Splits [B, P, 3] into planes, with the harmless (0, 0, 1) at dropped points."""
    x, y, z = tf.unstack(coords3d, 3, axis=-1)
    zero, one = tf.zeros([], z.dtype), tf.ones([], z.dtype)
    return tf.where(keep, x, zero), tf.where(keep, y, zero), tf.where(keep, z, one)


def _safe_uncert(uncert, valid):
    """Returns the uncertainties with 1 at invalid points."""
    return None if uncert is None else tf.where(valid, uncert, tf.ones([], uncert.dtype))


def _term(per_point, mask, weight):
    """Returns the masked sum and count."""
    total = tf.reduce_sum(tf.where(mask, per_point, tf.zeros([], per_point.dtype)))
    return LossTerm(total, _count(mask, per_point.dtype), weight)


def _count(mask, dtype):
    """Returns the number of true entries."""
    return tf.reduce_sum(tf.cast(mask, dtype))


def _gated(terms, config, step):
    """Returns the terms with the absolute loss frozen before its start step."""
    term = terms["loss3d_abs"]
    total = stop_grad_before_step(term.total, step, config.absloss_start_step)
    return {**terms, "loss3d_abs": term._replace(total=total)}


def _has_started(step, start_step):
    """Compares steps of any integer dtype."""
    return tf.cast(step, tf.int64) >= tf.cast(start_step, tf.int64)


def _border(config):
    """Returns the border factor of the 2D losses: a margin of 640 px at the defaults."""
    return FOV_BORDER * config.grid.proc_side


def _validity(inps):
    """Returns the validity mask or None."""
    validity = inps.get("point_validity")
    return None if validity is None else as_mask(validity)


def _or_all(valid, true):
    """Returns the mask, all true if there is none."""
    return tf.ones_like(true[..., 0], tf.bool) if valid is None else valid


def _entry(mapping, field, owner):
    """Returns a required entry, or says which are there."""
    if field not in mapping:
        raise ValueError(f"`{owner}` has no `{field}`, only {sorted(mapping)}: add it.")
    return mapping[field]


def _prediction(inps, preds, true_name, root_index=None):
    """Converts and checks what supervision needs; the prediction decides the dtype."""
    inps, preds = EasyDict(inps), EasyDict(preds)
    pred = as_float(_entry(preds, "coords3d_abs", "preds"))
    true = as_float(_entry(inps, true_name, "inps"), pred)
    intrinsics = as_float(_entry(inps, "intrinsics", "inps"), pred)
    uncert = preds.get("uncert")
    uncert = None if uncert is None else as_float(uncert, pred)
    valid = _validity(inps)
    check_shapes(
        coords3d_abs=(pred, "B P 3"),
        **{true_name: (true, "B P 3" if true_name == "coords3d_true" else "B P 2")},
        uncert=(uncert, "B P"),
        intrinsics=(intrinsics, "B 3 3"),
        point_validity=(valid, "B P"),
        root_index=(root_index, "B"),
    )
    return true, pred, uncert, intrinsics, _or_all(valid, true)


def _arguments_3d(inps, preds):
    """Returns the tensors of 3D supervision."""
    root_index = tf.cast(inps.get("root_index", -1), tf.int32)
    per_example = None if root_index.shape.rank == 0 else root_index
    prediction = _prediction(inps, preds, "coords3d_true", per_example)
    true, pred, uncert, intrinsics, valid = prediction
    _check_root(root_index, pred)
    return true, pred, uncert, intrinsics, root_index, valid


def _arguments_2d(inps, preds):
    """Returns the tensors of 2D supervision."""
    return _prediction(inps, preds, "coords2d_true")


def _check_root(root_index, pred):
    """Checks a root index that is known while tracing."""
    value, n_points = tf.get_static_value(root_index), pred.shape[1]
    if value is None or not value.size:
        return
    if value.min() < -1 or (n_points is not None and value.max() >= n_points):
        last = "the last one" if n_points is None else n_points - 1
        raise ValueError(
            f"root_index={value.tolist()}: must be -1 (mean) or a point from 0 to {last}."
        )
    if n_points is None and value.max() >= 0:
        n_points = tf.shape(pred)[1]
        data = [f"root_index={value.tolist()}: pass -1 (mean) or less than n_points =", n_points]
        tf.raw_ops.Assert(condition=n_points > int(value.max()), data=data)
