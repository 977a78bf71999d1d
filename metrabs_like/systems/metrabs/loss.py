"""Losses of the `metrabs` system, per annotation kind.

Conventions: every term is a total and a count, so that an update of several micro-batches or
replicas is normalized by its own number of valid points. Float32.
"""

import tensorflow as tf

from metrabs_like.losses import metric3d
from metrabs_like.losses.heatmap import expected_heatmap_count, heatmap_term
from metrabs_like.losses.terms import combine
from metrabs_like.systems.metrabs.decoding import reconstruct_absolute
from metrabs_like.systems.metrabs.preparation import present_kinds, split_by_kind


def loss_terms(outputs, targets, config, step):
    """Returns the loss terms of a batch.

    The absolute pose is reconstructed as in the released trainer: weak perspective before
    `config.full_perspective_start_step`, full from it on, inside the image mixed with the lifted 2D
    points by `targets["mix_3d_inside_fov"]`. Its reference is fitted to the points that carry a 3D
    annotation; where there are only 2D annotations, to all points, because a handful of them would
    leave the depth open.

    Args:
      outputs: of the model: `coords2d` `[B, P, 2]`, `coords3d_rel` `[B, P, 3]`, `uncert` `[B, P]`
        and `log_heatmap` `[B, P, H, W]` where `config.heatmap_loss_factor` is not 0.
      targets: of `prepare`.
      config: `Config`.
      step: int, number of the update.

    Returns:
      Dict name -> `losses.terms.LossTerm`: `kp3d/loss3d`, `kp3d/loss3d_abs`, `kp3d/loss2d` and
      `kp2d/loss2d`, those whose kind is in `targets`; with a heatmap loss also `KIND/heatmap`.

    Masking: points not valid in `targets` influence neither value nor gradient, NaN or not (their
    predictions still enter the reference of 2D-annotated people). Gradient: to all outputs.
    """
    kinds = present_kinds(targets)
    coords3d_abs = reconstruct_absolute(
        outputs["coords2d"],
        outputs["coords3d_rel"],
        tf.concat([targets[k]["intrinsics"] for k in kinds], 0),
        targets["mix_3d_inside_fov"],
        tf.concat([_reference_mask(k, targets[k]["point_validity"]) for k in kinds], 0),
        grid=config.grid,
        step=step,
        full_perspective_start_step=config.full_perspective_start_step,
    )
    predicted = {"coords3d_abs": coords3d_abs, "uncert": outputs["uncert"]}
    if config.heatmap_loss_factor:
        predicted["log_heatmap"] = outputs["log_heatmap"]
    preds = split_by_kind(predicted, targets)
    terms = {}
    for kind in kinds:
        inps = _inputs_of_loss(targets[kind], config)
        if kind == "kp3d":
            of_kind = metric3d.loss_terms_with_3d_gt(inps, preds[kind], config.loss_config, step)
        else:
            of_kind = metric3d.loss_terms_with_2d_gt(inps, preds[kind], config.loss_config)
        if config.heatmap_loss_factor:
            log_heatmap, labels = preds[kind]["log_heatmap"], _labels2d(targets[kind])
            term = heatmap_term(log_heatmap, *labels, config.grid)
            of_kind["heatmap"] = term._replace(weight=config.heatmap_loss_factor)
        factor = getattr(config, f"loss_factor_{kind}")
        for name, term in of_kind.items():
            terms[f"{kind}/{name}"] = term._replace(weight=term.weight * factor)
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
        count = metric3d.expected_counts_3d if kind == "kp3d" else metric3d.expected_counts_2d
        for name, value in count(inps, config.loss_config).items():
            counts[f"{kind}/{name}"] = value
        if config.heatmap_loss_factor:
            labels = _labels2d(targets[kind])
            counts[f"{kind}/heatmap"] = expected_heatmap_count(*labels, config.grid)
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


def _reference_mask(kind, point_validity):
    """Points that may determine the reference of the reconstruction, bool `[B, P]`."""
    return point_validity if kind == "kp3d" else tf.ones_like(point_validity)


def _labels2d(targets):
    """The 2D points and which of them count; a 3D annotation has its projection, too."""
    return targets["coords2d_true"], targets["point_validity"]


def _inputs_of_loss(targets, config):
    """The mapping that `losses.metric3d` expects, for one kind."""
    return {**targets, "root_index": config.root_index}
