"""Losses of metrabs: the sum of the released trainer's parts, the perspective switch, masks."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses import metric3d
from metrabs_like.systems.metrabs import (
    compute_loss,
    encode_targets,
    expected_counts,
    loss_terms,
    prepare,
    reconstruct_absolute,
    tiny_config,
)
from tests.systems import metrabs_batches

SEED = np.array([1, 2], np.int32)
CONFIG = tiny_config()  # full perspective and absolute gradient from step 10


def _scene(rng, kinds=("kp3d", "kp2d"), n=3, share_invalid=0.2):
    """Targets and outputs some centimetres and pixels off the truth."""
    batch = metrabs_batches.make_batch(rng, n, CONFIG, kinds, share_invalid)
    _, targets = prepare(batch, CONFIG, SEED)
    n_all, n_points = n * len(kinds), CONFIG.n_points
    outputs = {
        "coords2d": rng.uniform(10, 54, [n_all, n_points, 2]),
        "coords3d_rel": rng.uniform(-0.7, 0.7, [n_all, n_points, 3]),
        "uncert": rng.uniform(0.1, 0.5, [n_all, n_points]),
    }
    return {key: tf.constant(value, tf.float32) for key, value in outputs.items()}, targets


def _absolute(outputs, targets, kind, step, rows):
    valid = targets[kind]["point_validity"]
    return reconstruct_absolute(
        outputs["coords2d"][rows],
        outputs["coords3d_rel"][rows],
        targets[kind]["intrinsics"],
        targets["mix_3d_inside_fov"][rows],
        valid if kind == "kp3d" else tf.ones_like(valid),
        grid=CONFIG.grid,
        step=step,
        full_perspective_start_step=10,
    )


@pytest.mark.parametrize("step", [0, 9, 10, 20])
def test_total_is_that_of_the_trainer(rng, step):
    outputs, targets = _scene(rng)
    total, means = compute_loss(outputs, targets, CONFIG, step)
    inps = {**targets["kp3d"], "root_index": -1}
    preds = {
        "coords3d_abs": _absolute(outputs, targets, "kp3d", step, slice(0, 3)),
        "uncert": outputs["uncert"][:3],
    }
    parts, total3d = metric3d.compute_loss_with_3d_gt(inps, preds, CONFIG.loss_config, step)
    preds = {
        "coords3d_abs": _absolute(outputs, targets, "kp2d", step, slice(3, 6)),
        "uncert": outputs["uncert"][3:],
    }
    loss2d = metric3d.compute_loss_with_2d_gt(targets["kp2d"], preds, CONFIG.loss_config)
    np.testing.assert_allclose(total, 0.75 * total3d + 0.1 * loss2d, rtol=1e-5)
    for name in ("loss3d", "loss3d_abs", "loss2d"):
        np.testing.assert_allclose(means[f"kp3d/{name}"], parts[name], rtol=1e-5)
    np.testing.assert_allclose(means["kp2d/loss2d"], loss2d, rtol=1e-5)


def test_perspective_switches_once(rng):
    outputs, targets = _scene(rng, ("kp2d",))
    values = [float(compute_loss(outputs, targets, CONFIG, step)[0]) for step in (0, 9, 10, 99)]
    assert values[0] == values[1]
    assert values[2] == values[3]
    assert abs(values[1] - values[2]) > 1e-4 * abs(values[1])


def test_switch_is_traced_once(rng):
    outputs, targets = _scene(rng, ("kp2d",))
    n_traces = []

    @tf.function
    def call(step):
        n_traces.append(1)
        return compute_loss(outputs, targets, CONFIG, step)[0]

    for step in (0, 20):
        expected, _ = compute_loss(outputs, targets, CONFIG, step)
        np.testing.assert_allclose(call(tf.constant(step, tf.int64)), expected, rtol=1e-5)
    assert len(n_traces) == 1


@pytest.mark.parametrize("kind", ["kp3d", "kp2d"])
def test_factors_scale_their_kind(rng, kind):
    outputs, targets = _scene(rng, (kind,))
    total, _ = compute_loss(outputs, targets, CONFIG, 0)
    factor = getattr(CONFIG, f"loss_factor_{kind}")
    doubled = dataclasses.replace(CONFIG, **{f"loss_factor_{kind}": 2 * factor})
    np.testing.assert_allclose(compute_loss(outputs, targets, doubled, 0)[0], 2 * total, rtol=1e-6)


def test_absolute_term_has_no_gradient_before_its_start(rng):
    outputs, targets = _scene(rng, ("kp3d",))
    config = dataclasses.replace(CONFIG, full_perspective_start_step=0)

    def gradients(config, step):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss, _ = compute_loss(outputs, targets, config, step)
        return tape.gradient(loss, outputs)["coords3d_rel"]

    without = gradients(dataclasses.replace(config, absloss_factor=0.0), 9)
    np.testing.assert_allclose(gradients(config, 9), without, atol=1e-7)
    assert np.abs(gradients(config, 10) - without).max() > 1e-4


def test_predictions_of_invalid_points_do_not_move_a_3d_loss(rng):
    outputs, targets = _scene(rng, ("kp3d",))
    invalid = ~targets["kp3d"]["point_validity"]
    for value in (30.0, np.nan):
        changed = {
            key: tf.where(invalid if x.shape.rank == 2 else invalid[..., None], value, x)
            for key, x in outputs.items()
        }
        expected, got = [], []
        for result, outs in ((expected, outputs), (got, changed)):
            with tf.GradientTape() as tape:
                tape.watch(outs)
                loss, _ = compute_loss(outs, targets, CONFIG, 20)
            result += [loss, *tf.nest.flatten(tape.gradient(loss, outs))]
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_2d_annotations_of_one_skeleton_supervise_its_points_alone(rng):
    outputs, targets = _scene(rng, ("kp2d",), share_invalid=0)
    n_points = CONFIG.n_points
    is_annotated = np.arange(n_points) >= n_points - 5
    targets["kp2d"]["point_validity"] = tf.constant(np.tile(is_annotated, [3, 1]))
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        loss, _ = compute_loss(outputs, targets, CONFIG, 0)
    gradient = np.abs(tape.gradient(loss, outputs)["uncert"]).max(0)
    assert (gradient[is_annotated] > 0).all()
    np.testing.assert_array_equal(gradient[~is_annotated], 0)


def test_expected_counts_are_exact_near_the_truth(rng):
    _, targets = _scene(rng, share_invalid=0.4)
    targets["kp2d"] = targets["kp3d"]
    ideal = encode_targets(targets["kp3d"], CONFIG)
    outputs = {key: tf.concat([value, value], 0) for key, value in ideal.items()}
    terms = loss_terms(outputs, targets, CONFIG, 20)
    expected = expected_counts(targets, CONFIG)
    assert {k: float(t.count) for k, t in terms.items()} == {
        k: float(v) for k, v in expected.items()
    }


def test_heatmap_loss_counts_and_weight(rng):
    config = dataclasses.replace(CONFIG, heatmap_loss_factor=0.25)
    outputs, targets = _scene(rng)
    n = config.proc_side // config.stride
    flat = tf.fill([*outputs["uncert"].shape, n, n], -2 * float(np.log(n)))
    terms = loss_terms({**outputs, "log_heatmap": flat}, targets, config, 20)
    counts = expected_counts(targets, config)
    assert set(terms) == set(counts)
    for kind, factor in (("kp3d", config.loss_factor_kp3d), ("kp2d", config.loss_factor_kp2d)):
        term = terms[f"{kind}/heatmap"]
        assert float(term.count) == float(counts[f"{kind}/heatmap"]) > 0
        assert term.weight == pytest.approx(0.25 * factor)
        # no more than a flat heatmap is off a single cell
        assert 0 < float(term.mean()) <= 2 * np.log(n) + 1e-5


def test_a_root_that_is_not_annotated_is_replaced_by_the_mean(rng):
    """A data set of COCO joints beside a model whose errors refer to SMPL's pelvis."""
    config = dataclasses.replace(
        CONFIG, skeleton="smpl_24+coco_17", root_joint="pelv_smpl", nll_loss=False
    )
    part = metrabs_batches.make_batch(rng, 3, config, kinds=("kp3d",), share_invalid=0)["kp3d"]
    is_coco = np.arange(41) >= 24
    for name in ("coords3d_true", "coords2d_true"):
        part[name] = tf.where(is_coco[:, None], part[name], 0.0)
    part["point_validity"] = tf.constant(np.tile(is_coco, [3, 1]))
    _, targets = prepare({"kp3d": part}, config, None)
    ideal = encode_targets(targets["kp3d"], config)
    _, means = compute_loss(ideal, targets, config, 100)
    assert float(means["kp3d/loss3d"]) < 0.01
