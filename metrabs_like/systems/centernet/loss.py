"""Losses of the `centernet` system: six parts of the released code, and masks.

Conventions: every term is a total and a count, so that an update of several micro-batches or
replicas is normalized by its own number of valid entries. Cells of the map. Float32.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_mask
from metrabs_like.losses import focal, regression
from metrabs_like.losses.segmentation import IGNORED, dice_term, lovasz_hinge
from metrabs_like.losses.terms import LossTerm, combine
from metrabs_like.systems.centernet.peaks import gather_cells
from metrabs_like.systems.centernet.segmentation import conditional_convolution

#: Names of the released code's parts; a config without a head has no such term.
PARTS = ("hm", "hp", "hm_hp", "hp_offset", "wh", "off")
_KIND = "kp2d"


def loss_terms(outputs, targets, config, step):
    """Returns the loss terms of a batch.

    Args:
      outputs: of the model: dict head -> `[B, H, W, C]` as it comes from the network, without a
        sigmoid; or a list of such dicts, of a network with several stacks. The loss is their mean
        (the release applies its sigmoid twice to the same maps there, which is not repeated).
      targets: of `prepare`: `targets["kp2d"]` holds what `encode_targets` gives; `seg` integers
        `[B, N, H, W]` (1, 0, 255 ignored) where the config has masks.
      config: `Config`.
      step: int, number of the update; has no influence.

    Returns:
      Dict name -> `losses.terms.LossTerm`: `hm` (focal), `hp` (joints), `wh`, and where the config
      has the head `off`, `hm_hp`, `hp_offset`, `seg`. A batch without people still trains the
      background, by `hm` and `hm_hp`, see `losses.focal.focal_term` for what that means for
      micro-batches. The Lovasz loss of `seg` is one of all masks together: over micro-batches, its
      mean is weighted by their numbers of masks.

    Raises:
      ValueError: if a head or a target is missing, or shapes disagree.

    Masking: slots, joints and pixels that the targets' masks leave out, NaN or not, influence
    neither value nor gradient; so do masks of people without `reg_mask`. People whose mask is
    ignored altogether do not count for `seg`. Gradient: to all outputs.

    References:
      Zhou et al., Objects as Points, sec. 3 and 5.3; released code, `MultiPoseLoss`; masks:
      released code of centerpose, `SegLoss2`.
    """
    del step
    stacks = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    truth = targets[_KIND]
    _check_names(stacks, truth, config)
    of_stacks = [_stack_terms(stack, truth, config) for stack in stacks]
    weights, terms = _weights(config), {}
    for name, term in of_stacks[0].items():
        total = tf.add_n([of_stack[name].total for of_stack in of_stacks]) / len(stacks)
        terms[name] = LossTerm(total, term.count, weights[name])
    return terms


def expected_counts(targets, config):
    """Returns the counts that `loss_terms` will have; no prediction changes them.

    Args:
      targets: of `prepare`.
      config: `Config`.

    Returns:
      Dict name -> float32 scalar.
    """
    truth = targets[_KIND]
    counts = {
        "hm": focal.expected_focal_count(truth["hm"]),
        "hp": _hp_count(truth, config),
        "wh": _vector_count(truth["reg_mask"], config),
    }
    if config.reg_offset:
        counts["off"] = counts["wh"]
    if config.hm_hp:
        counts["hm_hp"] = _joint_map_count(truth["hm_hp"], config)
        if config.reg_hp_offset:
            counts["hp_offset"] = _vector_count(truth["hp_mask"], config)
    if config.n_seg_weights:
        counts["seg"] = regression.count_of(_has_mask(truth))
    return counts


def compute_loss(outputs, targets, config, step):
    """Returns the weighted loss of one batch and its parts.

    Args:
      outputs: of the model, one dict or a list of them.
      targets: of `prepare`.
      config: `Config`.
      step: int, number of the update.

    Returns:
      (float32 scalar, dict name -> unweighted mean): the seven numbers of the released code,
      `loss`, `hm`, `hp`, `hm_hp`, `hp_offset`, `wh` and `off`, 0 where the config has no such head;
      with masks also `seg`.

    Masking and gradient: as `loss_terms`.
    """
    loss, means = combine(loss_terms(outputs, targets, config, step))
    return loss, {"loss": loss, **dict.fromkeys(PARTS, tf.zeros([])), **means}


def _weights(config):
    """Weight of each term; that of the offsets counts for centres and joints."""
    return {
        "hm": config.hm_weight,
        "wh": config.wh_weight,
        "off": config.off_weight,
        "hp": config.hp_weight,
        "hm_hp": config.hm_hp_weight,
        "hp_offset": config.off_weight,
        "seg": config.seg_weight,
    }


def _stack_terms(outputs, truth, config):
    """The terms of one stack, not yet weighted."""
    vector_term = (
        regression.l1_term if config.regression_loss == "l1" else regression.smooth_l1_term
    )

    def at_centers(name):
        return gather_cells(outputs[name], truth["ind"])

    terms = {
        "hm": focal.focal_term(focal.clamped_sigmoid(outputs["hm"]), truth["hm"]),
        "hp": _hp_term(outputs, truth, config),
        "wh": vector_term(at_centers("wh"), truth["wh"], truth["reg_mask"]),
    }
    if config.reg_offset:
        terms["off"] = vector_term(at_centers("reg"), truth["reg"], truth["reg_mask"])
    if config.hm_hp:
        terms["hm_hp"] = _joint_map_term(outputs["hm_hp"], truth["hm_hp"], config)
        if config.reg_hp_offset:
            at_joints = gather_cells(outputs["hp_offset"], truth["hp_ind"])
            terms["hp_offset"] = vector_term(at_joints, truth["hp_offset"], truth["hp_mask"])
    if config.n_seg_weights:
        terms["seg"] = _mask_term(outputs["seg_feat"], at_centers("seg"), truth, config)
    return terms


def _hp_term(outputs, truth, config):
    """Regressed joints: at the centres, or everywhere near them. Never smooth, as the release."""
    if config.dense_hp:
        return regression.dense_l1_term(outputs["hps"], truth["dense_hps"], truth["dense_hps_mask"])
    at_centers = gather_cells(outputs["hps"], truth["ind"])
    return regression.weighted_l1_term(at_centers, truth["hps"], truth["hps_mask"])


def _hp_count(truth, config):
    if config.dense_hp:
        return regression.expected_dense_count(truth["dense_hps_mask"])
    return regression.count_of(truth["hps_mask"]) + regression.COUNT_EPSILON


def _joint_map_term(logits, heatmap_true, config):
    """Joints' heat maps: focal, or squared error of the raw maps."""
    if config.mse_loss:
        return regression.mean_square_term(logits, heatmap_true)
    return focal.focal_term(focal.clamped_sigmoid(logits), heatmap_true)


def _joint_map_count(heatmap_true, config):
    if config.mse_loss:
        return tf.cast(tf.size(heatmap_true), tf.float32)
    return focal.expected_focal_count(heatmap_true)


def _vector_count(mask, config):
    """Count of a term of vectors of two numbers; the smooth loss counts vectors (release)."""
    n_numbers = 2 if config.regression_loss == "l1" else 1
    return n_numbers * regression.count_of(mask) + regression.COUNT_EPSILON


def _has_mask(truth):
    """People of whose mask some pixel counts, `[B, N]`; others would add a constant loss."""
    is_labelled = tf.not_equal(tf.cast(truth["seg"], tf.int32), IGNORED)
    return as_mask(truth["reg_mask"]) & tf.reduce_any(is_labelled, axis=[2, 3])


def _mask_term(features, filters, truth, config):
    """Lovasz loss of all masks together, counted as one per mask, or dice losses."""
    is_used = _has_mask(truth)
    filters = tf.where(is_used[..., tf.newaxis], filters, 0.0)
    logits = conditional_convolution(features, filters)
    if config.seg_loss == "dice":
        return dice_term(logits, truth["seg"], is_used)
    labels = tf.cast(truth["seg"], tf.int32)
    labels = tf.where(is_used[..., tf.newaxis, tf.newaxis], labels, IGNORED)
    n_masks = regression.count_of(is_used)
    return LossTerm(lovasz_hinge(logits, labels, symmetric=True) * n_masks, n_masks, 1.0)


def _check_names(stacks, truth, config):
    """Raises if the network or the targets lack what the config trains."""
    if not stacks:
        raise ValueError("outputs=[]: pass the dict of heads, or one per stack")
    missing = sorted({name for stack in stacks for name in config.heads if name not in stack})
    if missing:
        raise ValueError(f"`outputs` lacks the heads {missing} of the config")
    wanted = ["hm", "wh", "ind", "reg_mask"]
    wanted += ["dense_hps", "dense_hps_mask"] if config.dense_hp else ["hps", "hps_mask"]
    wanted += ["reg"] * config.reg_offset + ["hm_hp"] * config.hm_hp
    if config.hm_hp and config.reg_hp_offset:
        wanted += ["hp_offset", "hp_ind", "hp_mask"]
    wanted += ["seg"] * bool(config.n_seg_weights)
    missing = [name for name in wanted if name not in truth]
    if missing:
        raise ValueError(f"targets[{_KIND!r}] lacks {missing}: encode them with the same config")
