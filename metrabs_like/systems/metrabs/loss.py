"""Losses of the `metrabs` system, per annotation kind.

Conventions: every term is a total and a count, so that an update of several micro-batches or
replicas is normalized by its own number of valid points. Float32.
"""

import tensorflow as tf

from metrabs_like.geometry.camera import project_pose
from metrabs_like.losses import metric3d
from metrabs_like.losses.heatmap import expected_heatmap_count, heatmap_term
from metrabs_like.losses.terms import LossTerm, combine
from metrabs_like.systems.metrabs.decoding import reconstruct_absolute
from metrabs_like.systems.metrabs.field import POINTS
from metrabs_like.systems.metrabs.preparation import (
    present_kinds,
    split_by_kind,
    split_predictions,
)
from metrabs_like.systems.metrabs.supervision import KINDS_3D, POINT_KINDS


def loss_terms(outputs, targets, config, step):
    """Returns the loss terms of a batch.

    The absolute pose is reconstructed as in the released trainer: weak perspective before
    `config.full_perspective_start_step`, full from it on, inside the image mixed with the lifted 2D
    points by `targets["mix_3d_inside_fov"]`. Its reference is fitted to the points that carry a 3D
    annotation; where there are only 2D annotations, to all points, because a handful of them would
    leave the depth open. Canonical points count as further points of their examples.

    Args:
      outputs: of the model: `coords2d` `[B, P, 2]`, `coords3d_rel` `[B, P, 3]`, `uncert` `[B, P]`
        and `log_heatmap` `[B, P, H, W]` where `config.heatmap_loss_factor` is not 0; of a field
        also `points_*` of the kinds with canonical points.
      targets: of `prepare`.
      config: `Config`.
      step: int, number of the update.

    Returns:
      Dict name -> `losses.terms.LossTerm`, of the kinds in `targets`: `KIND/loss3d`,
      `KIND/loss3d_abs` and `KIND/loss2d` of param and kp3d, `KIND/loss2d` of dense and kp2d; with a
      heatmap loss also `KIND/heatmap`; and `KIND/error_px`, the mean distance of the projections in
      crop px, which has no weight and no gradient.

    Masking: points not valid in `targets` influence neither value nor gradient, NaN or not (their
    predictions still enter the reference of 2D-annotated people). Gradient: to all outputs.
    """
    terms = {}
    for kind, preds in _predictions(outputs, targets, config, step).items():
        inps = _inputs_of_loss(targets[kind], config)
        if kind in KINDS_3D:
            of_kind = metric3d.loss_terms_with_3d_gt(inps, preds, config.loss_config, step)
        else:
            of_kind = metric3d.loss_terms_with_2d_gt(inps, preds, config.loss_config)
        if config.heatmap_loss_factor:
            term = heatmap_term(preds["log_heatmap"], *_labels2d(targets[kind]), config.grid)
            of_kind["heatmap"] = term._replace(weight=config.heatmap_loss_factor)
        factor = getattr(config, f"loss_factor_{kind}")
        for name, term in of_kind.items():
            terms[f"{kind}/{name}"] = term._replace(weight=term.weight * factor)
        terms[f"{kind}/error_px"] = _pixel_error(preds["coords3d_abs"], targets[kind])
    return terms


def expected_counts(targets, config):
    """Returns the counts that `loss_terms` will have, from the targets alone.

    Args:
      targets: of `prepare`.
      config: `Config`.

    Returns:
      Dict name -> float32 scalar: an upper bound, reached unless a prediction leaves the margin
      around the image or falls behind the camera.
    """
    counts = {}
    for kind in present_kinds(targets):
        inps = _inputs_of_loss(targets[kind], config)
        is_3d = kind in KINDS_3D
        count = metric3d.expected_counts_3d if is_3d else metric3d.expected_counts_2d
        for name, value in count(inps, config.loss_config).items():
            counts[f"{kind}/{name}"] = value
        if config.heatmap_loss_factor:
            labels = _labels2d(targets[kind])
            counts[f"{kind}/heatmap"] = expected_heatmap_count(*labels, config.grid)
        valid = targets[kind]["point_validity"]
        counts[f"{kind}/error_px"] = tf.reduce_sum(tf.cast(valid, tf.float32))
    return counts


def compute_loss(outputs, targets, config, step):
    """Returns the weighted loss of one batch and its terms.

    Args:
      outputs: of the model.
      targets: of `prepare`.
      config: `Config`.
      step: int, number of the update.

    Returns:
      (float32 scalar, dict name -> unweighted mean of the term); 0 without valid points.

    Masking and gradient: as `loss_terms`.
    """
    return combine(loss_terms(outputs, targets, config, step))


def _predictions(outputs, targets, config, step):
    """Returns kind -> predictions of all its points, absolute ones included, `[B, P + K, ...]`."""
    preds = split_predictions(outputs, targets)
    mixes = split_by_kind({"mix": targets["mix_3d_inside_fov"]}, targets)
    # One reconstruction for the kinds that have the same number of points.
    has_points = {kind: kind in POINT_KINDS and POINTS + "uncert" in outputs for kind in preds}
    for wanted in set(has_points.values()):
        group = [kind for kind in preds if has_points[kind] == wanted]
        absolute = reconstruct_absolute(
            tf.concat([preds[k]["coords2d"] for k in group], 0),
            tf.concat([preds[k]["coords3d_rel"] for k in group], 0),
            tf.concat([targets[k]["intrinsics"] for k in group], 0),
            tf.concat([mixes[k]["mix"] for k in group], 0),
            tf.concat([_reference_mask(k, targets[k], config) for k in group], 0),
            grid=config.grid,
            step=step,
            full_perspective_start_step=config.full_perspective_start_step,
        )
        split = split_by_kind({"coords3d_abs": absolute}, {k: targets[k] for k in group})
        for kind in group:
            preds[kind] |= split[kind]
    return preds


def _reference_mask(kind, targets, config):
    """Points that may determine the reference of the reconstruction, bool `[B, P + K]`.

    Where only 2D is annotated these are all joints, and the surface points that are there.
    """
    validity = targets["point_validity"]
    if kind in KINDS_3D:
        return validity
    return validity | (tf.range(tf.shape(validity)[1]) < config.n_points)


def _pixel_error(coords3d_abs, targets):
    """The distance of the projections from the labels in crop px, to be logged."""
    coords2d = project_pose(tf.stop_gradient(coords3d_abs), targets["intrinsics"])
    valid = targets["point_validity"]
    difference = tf.where(valid[..., tf.newaxis], coords2d - targets["coords2d_true"], 0.0)
    total = tf.reduce_sum(tf.norm(difference, axis=-1))
    return LossTerm(total, tf.reduce_sum(tf.cast(valid, total.dtype)), 0.0)


def _labels2d(targets):
    """The 2D points and which of them count; a 3D annotation has its projection, too."""
    return targets["coords2d_true"], targets["point_validity"]


def _inputs_of_loss(targets, config):
    """The mapping that `losses.metric3d` expects, for one kind.

    Errors refer to the root only where it is annotated, elsewhere to the mean: a data set may not
    have the root.
    """
    root = config.root_index
    if root >= 0:
        root = tf.where(targets["point_validity"][:, root], root, -1)
    return {**targets, "root_index": root}
