"""Losses against 3D and 2D truth: values, masks, invariances, counts, graphs, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry.camera import CropGrid
from metrabs_like.losses import metric3d
from metrabs_like.losses.metric3d import Metric3DLossConfig
from metrabs_like.losses.terms import combine
from scripts.benchmarks import plain
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match
from tests.losses.batches import make_batch, select

CONFIG = Metric3DLossConfig()
STARTED = 5000


def total_3d(inps, preds, config=CONFIG, step=STARTED):
    return metric3d.compute_loss_with_3d_gt(inps, preds, config, step)[1]


def losses_of(inps, preds, config=CONFIG):
    """Returns all losses as one vector: three against 3D truth, one against 2D truth."""
    parts, total = metric3d.compute_loss_with_3d_gt(inps, preds, config, STARTED)
    in_2d = metric3d.compute_loss_with_2d_gt(inps, preds, config)
    return np.array([parts.loss3d, parts.loss3d_abs, parts.loss2d, total, in_2d])


@pytest.mark.parametrize("shape", [(4, 24), (1, 24), (3, 1), (2, 2700)])
@pytest.mark.parametrize("has_uncert", [True, False])
def test_agrees_with_the_plain_formulation_in_double_precision(rng, shape, has_uncert):
    inps, preds = make_batch(rng, *shape)
    preds["uncert"] = preds["uncert"] if has_uncert else None
    args = [inps["coords3d_true"], preds["coords3d_abs"], preds["uncert"], inps["intrinsics"]]
    args = [None if x is None else tf.constant(x, tf.float64) for x in args]
    root, mask = inps["root_index"], inps["point_validity"]
    exact = plain.compute_loss_with_3d_gt(*args, root, mask, CONFIG, True)
    np.testing.assert_allclose(losses_of(inps, preds)[:4], exact, rtol=1e-5, atol=1e-6)


def test_a_perfect_prediction_without_uncertainty_costs_nothing(rng):
    inps, _ = make_batch(rng)
    perfect = {"coords3d_abs": inps["coords3d_true"]}
    np.testing.assert_allclose(losses_of(inps, perfect), np.zeros(5), atol=1e-5)


def test_the_relative_loss_ignores_translation_the_absolute_one_does_not(rng):
    inps, preds = make_batch(rng, dtype=np.float64)
    inps["root_index"] = -1
    preds = {"coords3d_abs": preds["coords3d_abs"]}
    moved = {"coords3d_abs": preds["coords3d_abs"] + [0.3, -0.2, 0.5]}
    before, after = losses_of(inps, preds), losses_of(inps, moved)
    assert after[0] == pytest.approx(before[0])
    assert after[1] > before[1]


def test_far_depth_errors_are_scaled_down():
    config = Metric3DLossConfig(nll_loss=False)
    inps = {"coords3d_true": [[[0.0, 0.0, 20.0]]], "intrinsics": [np.eye(3)]}
    preds = {"coords3d_abs": [[[0.0, 0.0, 22.0]]], "uncert": [[1.0]]}
    losses, _ = metric3d.compute_loss_with_3d_gt(inps, preds, config, 0)
    np.testing.assert_allclose(losses.loss3d_abs, 2.0 * 5 / 20 / np.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_at_invalid_points_move_nothing(rng, bad):
    inps, preds = make_batch(rng)
    valid = inps["point_validity"]
    results = []
    # Two of the roots are invalid: where they are not finite, the mean takes their place.
    for value, root in ((0.1, [-1, -1, -1, 0]), (bad, [3, 11, -1, 0])):
        inps["root_index"] = np.int32(root)
        dirty = {"coords3d_true", "coords2d_true", "coords3d_abs", "uncert"}
        spoil = {
            key: np.where(valid.reshape(valid.shape + (1,) * (x.ndim - 2)), x, value).astype(
                x.dtype
            )
            for key, x in {**inps, **preds}.items()
            if key in dirty
        }
        tensors = [tf.constant(spoil["coords3d_abs"]), tf.constant(spoil["uncert"])]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            pair = dict(zip(("coords3d_abs", "uncert"), tensors, strict=True))
            loss = total_3d({**inps, **spoil}, pair)
            loss += metric3d.compute_loss_with_2d_gt({**inps, **spoil}, pair, CONFIG)
        results.append([loss, *tape.gradient(loss, tensors)])
    for reference, result in zip(*results, strict=True):
        assert np.isfinite(result).all()
        np.testing.assert_array_equal(result, reference)
    assert (results[1][1].numpy()[~valid] == 0).all()


def test_an_invalid_root_is_used_unless_it_is_not_finite(rng):
    inps, preds = make_batch(rng, 1)
    inps["root_index"] = 3
    assert not inps["point_validity"][0, 3]
    by_root = losses_of(inps, preds)[0]
    by_mean = losses_of({**inps, "root_index": -1}, preds)[0]
    assert by_root != pytest.approx(by_mean, rel=1e-3)
    preds["coords3d_abs"][0, 3, 1] = np.nan
    assert losses_of(inps, preds)[0] == pytest.approx(by_mean, rel=1e-5)


@pytest.mark.parametrize("key", ["coords3d_abs", "uncert"])
def test_a_broken_prediction_at_a_valid_point_stays_visible(rng, key):
    inps, preds = make_batch(rng)
    preds[key][1, 0] = np.nan
    losses = losses_of(inps, preds)
    assert not np.isfinite(losses).any(), "the released code turns these into 0"


def test_a_valid_target_behind_the_mask_of_another_loss_still_counts_elsewhere(rng):
    inps, preds = make_batch(rng)
    inps["coords3d_true"][..., 2] = 0.2  # nearer than the absolute and the 2D loss accept
    losses = losses_of(inps, preds)
    assert losses[0] != 0
    np.testing.assert_array_equal(losses[1:3], [0.0, 0.0])


def test_nothing_valid_and_empty_batches_cost_nothing(rng):
    inps, preds = make_batch(rng)
    inps["point_validity"] = np.zeros_like(inps["point_validity"])
    tensors = {key: tf.constant(value) for key, value in preds.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = total_3d(inps, tensors)
    assert loss == 0
    for gradient in tape.gradient(loss, tensors).values():
        assert (gradient.numpy() == 0).all()
    empty = slice(0, 0)
    np.testing.assert_array_equal(losses_of(select(inps, empty), select(preds, empty)), np.zeros(5))


def test_permuting_points_and_examples_changes_nothing(rng):
    inps, preds = make_batch(rng, dtype=np.float64)
    points, examples = rng.permutation(24), rng.permutation(4)
    place = np.append(np.argsort(points), -1)

    def shuffled(mapping):
        mapping = {k: v[:, points] if v.shape[1:2] == (24,) else v for k, v in mapping.items()}
        if "root_index" in mapping:
            mapping["root_index"] = place[mapping["root_index"]].astype(np.int32)
        return select(mapping, examples)

    np.testing.assert_allclose(losses_of(shuffled(inps), shuffled(preds)), losses_of(inps, preds))


def test_mirroring_changes_nothing(rng):
    inps, preds = make_batch(rng, dtype=np.float64)
    reference = losses_of(inps, preds)
    side = CONFIG.grid.proc_side
    flip = {**inps, "coords3d_true": inps["coords3d_true"] * [-1, 1, 1]}
    flip["coords2d_true"] = inps["coords2d_true"] * [-1, 1] + [side, 0]
    flip["intrinsics"] = inps["intrinsics"].copy()
    flip["intrinsics"][:, 0, 2] = side - inps["intrinsics"][:, 0, 2]
    flipped = {**preds, "coords3d_abs": preds["coords3d_abs"] * [-1, 1, 1]}
    np.testing.assert_allclose(losses_of(flip, flipped), reference)


def test_pixels_intrinsics_and_grid_scale_together(rng):
    inps, preds = make_batch(rng, dtype=np.float64)
    double = {**inps, "coords2d_true": 2 * inps["coords2d_true"]}
    double["intrinsics"] = np.diag([2.0, 2.0, 1.0]) @ inps["intrinsics"]
    config = Metric3DLossConfig(grid=CropGrid(512, 64))
    found = losses_of(double, preds, config)[[0, 1, 3]]
    np.testing.assert_allclose(found, losses_of(inps, preds)[[0, 1, 3]])


def test_terms_of_parts_add_up_to_the_whole(rng):
    inps, preds = make_batch(rng)
    halves = [slice(0, 1), slice(1, 4)]
    parts = [
        metric3d.loss_terms_with_3d_gt(select(inps, h), select(preds, h), CONFIG, STARTED)
        for h in halves
    ]
    counts = {name: sum(part[name].count for part in parts) for name in parts[0]}
    total = sum(combine(part, counts)[0] for part in parts)
    np.testing.assert_allclose(total, total_3d(inps, preds), rtol=1e-5)


def test_expected_counts_bound_the_counts_from_the_targets_alone(rng):
    inps, preds = make_batch(rng)
    inps["coords3d_true"][0, :5, 2] = 0.2
    terms = metric3d.loss_terms_with_3d_gt(inps, preds, CONFIG, STARTED)
    terms2d = metric3d.loss_terms_with_2d_gt(inps, preds, CONFIG)
    expected = metric3d.expected_counts_3d(inps, CONFIG)
    expected2d = metric3d.expected_counts_2d(inps, CONFIG)
    for name in terms:
        assert expected[name] == terms[name].count
    assert expected2d["loss2d"] == terms2d["loss2d"].count
    preds["coords3d_abs"][2, :, 2] *= -1  # out of view: 2D counts only
    terms = metric3d.loss_terms_with_3d_gt(inps, preds, CONFIG, STARTED)
    assert expected["loss2d"] == terms["loss2d"].count + inps["point_validity"][2].sum()
    assert expected["loss3d"] == terms["loss3d"].count


def test_the_absolute_loss_counts_without_gradient_before_its_start(rng):
    inps, preds = make_batch(rng)
    pred = tf.constant(preds["coords3d_abs"])

    def total_and_gradient(step, factor):
        config = Metric3DLossConfig(absloss_factor=factor)
        with tf.GradientTape() as tape:
            tape.watch(pred)
            total = total_3d(inps, {**preds, "coords3d_abs": pred}, config, step)
        return total, tape.gradient(total, pred)

    before, after = total_and_gradient(STARTED - 1, 0.5), total_and_gradient(STARTED, 0.5)
    without = total_and_gradient(STARTED, 0.0)
    np.testing.assert_allclose(before[0], after[0])
    np.testing.assert_allclose(before[1], without[1])
    assert not np.allclose(after[1], without[1])


def test_an_overflowing_absolute_loss_counts_nothing_before_its_start(rng):
    inps, preds = make_batch(rng)
    preds["coords3d_abs"] += np.float32(1e20)
    inps["coords3d_true"] = inps["coords3d_true"].copy()
    tensors = {key: tf.constant(value) for key, value in preds.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        losses, total = metric3d.compute_loss_with_3d_gt(inps, tensors, CONFIG, STARTED - 1)
    assert np.isinf(losses.loss3d_abs)
    assert np.isfinite(total)
    assert all(np.isfinite(g).all() for g in tape.gradient(total, tensors).values())
    assert np.isinf(total_3d(inps, preds))


@pytest.mark.parametrize("step", [4, 5])
@pytest.mark.parametrize("value", [2.0, np.inf, np.nan])
def test_stop_grad_before_step(step, value):
    x = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(x)
        gated = metric3d.stop_grad_before_step(x, step, 5)
    gradient = tape.gradient(gated, x, unconnected_gradients="zero")
    assert gradient == (step == 5)
    expected = value if step == 5 or np.isfinite(value) else 0.0
    np.testing.assert_array_equal(gated, np.float32(expected))


@pytest.mark.parametrize("root", [-1, 2])
def test_gradients_match_finite_differences(rng, root):
    inps, preds = make_batch(rng, 1, 4, dtype=np.float64)
    inps["root_index"] = root
    config = Metric3DLossConfig(beta_nll=0.0, absloss_start_step=0)

    def loss(coords3d_abs, uncert):
        pair = {"coords3d_abs": coords3d_abs, "uncert": uncert}
        in_2d = metric3d.compute_loss_with_2d_gt(inps, pair, config)
        return total_3d(inps, pair, config) + in_2d

    assert_gradients_match(loss, [preds["coords3d_abs"], preds["uncert"]], rtol=1e-4, atol=1e-6)


def batches_of(rng, keys):
    """Returns the named entries of batches of several sizes, one of them empty."""
    batches = []
    for shape in ((4, 24), (1, 5), (0, 7)):
        inps, preds = make_batch(rng, *shape)
        batches.append([{**inps, **preds}[key] for key in keys])
    return batches


@pytest.mark.parametrize(("has_started", "nll_loss"), [(True, True), (False, False)])
def test_loss_with_3d_gt_compiles_once_over_all_shapes(rng, has_started, nll_loss):
    config = Metric3DLossConfig(nll_loss=nll_loss)

    def losses(pred, uncert, true, intrinsics, valid, root, step):
        inps = {"coords3d_true": true, "intrinsics": intrinsics, "point_validity": valid}
        pair = {"coords3d_abs": pred, "uncert": uncert}
        parts, total = metric3d.compute_loss_with_3d_gt(
            {**inps, "root_index": root}, pair, config, step
        )
        return [parts.loss3d, parts.loss3d_abs, parts.loss2d, total]

    keys = ("coords3d_abs", "uncert", "coords3d_true", "intrinsics", "point_validity", "root_index")
    step = np.int64(STARTED if has_started else STARTED - 1)
    assert_compiles_once(losses, [[*batch, step] for batch in batches_of(rng, keys)])


@pytest.mark.parametrize("nll_loss", [True, False])
def test_loss_with_2d_gt_compiles_once_over_all_shapes(rng, nll_loss):
    config = Metric3DLossConfig(nll_loss=nll_loss)

    def loss(pred, uncert, true, intrinsics, valid):
        inps = {"coords2d_true": true, "intrinsics": intrinsics, "point_validity": valid}
        pair = {"coords3d_abs": pred, "uncert": uncert}
        return metric3d.compute_loss_with_2d_gt(inps, pair, config)

    keys = ("coords3d_abs", "uncert", "coords2d_true", "intrinsics", "point_validity")
    assert_compiles_once(loss, batches_of(rng, keys))


@pytest.mark.parametrize("supervision", ["3d", "2d"])
def test_direct_calls_trace_at_most_twice_over_all_shapes_and_equal_configs(rng, supervision):
    traced = getattr(metric3d, f"_compute_loss_with_{supervision}_gt").traced
    before = traced.experimental_get_tracing_count()
    for step, shape in enumerate(((2, 3), (3, 2), (5, 9), (1, 1), (7, 4))):
        config = Metric3DLossConfig(grid=CropGrid(255, 31))  # equal, but a new object each time
        if supervision == "3d":
            total_3d(*make_batch(rng, *shape), config, step)
        else:
            metric3d.compute_loss_with_2d_gt(*make_batch(rng, *shape), config)
    assert traced.experimental_get_tracing_count() - before <= 2


@pytest.mark.parametrize(
    ("inps_change", "preds_change", "message"),
    [
        ({"root_index": 24}, {}, "root_index=24: must be -1 .* 0 to 23"),
        ({"intrinsics": np.zeros((3, 3, 3))}, {}, "`intrinsics`.*B = 4"),
        ({}, {"uncert": np.ones((4, 24, 1))}, "`uncert` has shape"),
        ({}, {"coords3d_abs": np.ones((4, 23, 3))}, "P = 23"),
    ],
)
def test_bad_arguments_are_named(rng, inps_change, preds_change, message):
    inps, preds = make_batch(rng)
    with pytest.raises(ValueError, match=message):
        total_3d({**inps, **inps_change}, {**preds, **preds_change})


def test_a_missing_entry_is_named(rng):
    inps, preds = make_batch(rng)
    del inps["intrinsics"]
    with pytest.raises(ValueError, match="`inps` has no `intrinsics`, only .*coords3d_true"):
        total_3d(inps, preds)
