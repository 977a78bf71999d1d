"""Float64 losses for input that is not finite everywhere, where the released code is no measure.

There NaN behind a mask leaks into the centre of its example, and NaN in a mean becomes 0. What must
hold instead: masked points are not there; a loss is not finite exactly if a point that counts in
it is not; and such a point spoils no other example's gradient.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from scripts.benchmarks import plain
from tests.golden import closeness, nonfinite

SUMMED = ("loss3d", "loss2d")
# Squares of more are infinite in float32.
OVERFLOWS = 1e18


class Expected(NamedTuple):
    """What must hold: close to `value`, save where ours must not be finite, or may be anything."""

    value: np.ndarray
    is_broken: np.ndarray
    is_open: np.ndarray

    @classmethod
    def of_value(cls, value):
        """Makes what must hold of a value that is itself not finite where ours must not be."""
        value = np.asarray(value)
        return cls(np.nan_to_num(value), ~np.isfinite(value), np.zeros(value.shape, bool))

    def plus(self, other, factor=1.0, shows=True):
        """Adds a further term; one that does not show its defects counts with its finite value."""
        return Expected(
            self.value + factor * other.value,
            self.is_broken | (other.is_broken & shows),
            self.is_open | (other.is_open & shows),
        )


class Points(NamedTuple):
    """The points of a case: harmless where they are not finite, and where that is."""

    true: np.ndarray
    pred: np.ndarray
    uncert: np.ndarray
    valid: np.ndarray
    # Which points, valid or not, have a non-finite truth, prediction or uncertainty.
    true_is_broken: np.ndarray
    pred_is_broken: np.ndarray
    uncert_is_broken: np.ndarray

    @property
    def is_broken(self):
        """Which points have any non-finite number that the loss reads."""
        return self.true_is_broken | self.pred_is_broken | self.uncert_is_broken

    def only(self, keep):
        """Returns the points with harmless numbers in place of those not kept."""
        arrays = (self.true, self.pred, self.uncert)
        return self._replace(**_harmless(dict(zip(self._fields, arrays, strict=False)), keep))


def _harmless(arrays, keep):
    """Replaces points by (0, 0, 1), pixels by (0, 0), uncertainties by 1."""
    neutral = {0: 1.0, 2: np.zeros(2), 3: np.array([0.0, 0.0, 1.0])}
    return {
        key: np.where(keep.reshape(keep.shape + (1,) * (x.ndim - 2)), x, value).astype(x.dtype)
        for key, x in arrays.items()
        for value in [neutral[x.shape[-1] if x.ndim > 2 else 0]]
    }


def points_of(case, true_key, config):
    """Reads a case's points; without the likelihood the losses do not read the uncertainty."""
    valid = nonfinite.validity(case)
    valid = np.ones(case["in_uncert"].shape, bool) if valid is None else valid
    arrays = dict(true=case[true_key], pred=case["in_coords3d_abs"], uncert=case["in_uncert"])
    broken = {key: nonfinite.is_broken(x) for key, x in arrays.items()}
    largest = max(np.abs(x[np.isfinite(x)]).max(initial=0) for x in arrays.values())
    # What overflows in float32 must overflow here too.
    dtype = np.float32 if largest > OVERFLOWS else np.float64
    arrays = {
        key: _harmless({key: x.astype(dtype)}, ~broken[key])[key] for key, x in arrays.items()
    }
    broken["uncert"] &= bool(config.nll_loss)
    return Points(*arrays.values(), valid, *broken.values())


def losses_with_3d_gt(case, config, step):
    """Returns {name: (value, gradient of the points, of the uncertainty)}, `Expected` each."""
    points = points_of(case, "in_coords3d_true", config)
    intrinsics = case["in_intrinsics"].astype(points.pred.dtype)
    spoilt = (points.valid & points.is_broken).any(1, keepdims=True)
    root = np.broadcast_to(case["in_root_index"], spoilt.shape[:1])
    is_root = np.arange(points.valid.shape[1]) == root[:, np.newaxis]
    root = np.where((is_root & points.is_broken).any(1), -1, root)
    is_far = points.valid & (case["in_coords3d_true"][..., 2] > 0.3)
    true2d = plain.project_pose(tf.constant(points.true), intrinsics)
    is_seen = is_far & _is_seen(true2d, points, intrinsics, config, near=0.001)

    def losses(counts, also_read=False):
        used = points.only(counts | also_read)

        def function(pred, uncert):
            args = (tf.constant(used.true), pred, uncert, tf.constant(intrinsics))
            return plain.compute_loss_with_3d_gt(*args, root, counts, config, True)

        return _with_gradients(function, used)

    whole = losses(points.valid & ~spoilt, is_root)
    single = losses(points.valid & ~points.is_broken)
    # The centre of an example spreads a defect to all its points, and to its root.
    mixed = spoilt & (points.valid | is_root)
    results = {
        "loss3d": _expected(whole[0], points, points.valid, points.valid & ~spoilt, mixed),
        "loss3d_abs": _expected(single[1], points, is_far),
        "loss2d": _expected(single[2], points, is_seen),
    }
    results["total"] = _total(results, config, step >= config.absloss_start_step)
    return results


def losses_with_2d_gt(case, config):
    """Returns the same for the single loss against 2D truth."""
    points = points_of(case, "in_coords2d_true", config)
    intrinsics = case["in_intrinsics"].astype(points.pred.dtype)
    true2d = tf.constant(points.true)
    is_seen = points.valid & _is_seen(true2d, points, intrinsics, config)
    counts = points.valid & ~points.is_broken

    def function(pred, uncert):
        pred2d = plain.project_pose(pred, tf.constant(intrinsics))
        return [plain.loss2d(true2d, pred2d, uncert, counts, config)]

    return _expected(_with_gradients(function, points.only(counts))[0], points, is_seen)


def _is_seen(true2d, points, intrinsics, config, near=-np.inf):
    """Returns which points lie inside the margin; a broken prediction does, a broken truth not."""
    border = -20 * config.grid.proc_side / 256
    pred2d = plain.project_pose(tf.constant(points.pred), tf.constant(intrinsics))
    pred_is_seen = plain.is_within_fov(pred2d, config.grid, border) & (points.pred[..., 2] > near)
    seen = plain.is_within_fov(true2d, config.grid, border) & ~points.true_is_broken
    return (seen & (pred_is_seen | points.pred_is_broken)).numpy()


def _with_gradients(function, points):
    """Returns [(value, gradients)] of the function's results for float64 predictions."""
    inputs = [tf.constant(points.pred), tf.constant(points.uncert)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        values = function(*inputs)
    pairs = []
    for value in values:
        gradients = tape.gradient(value, inputs, unconnected_gradients="zero")
        pairs.append([np.asarray(x) for x in (value, *gradients)])
    return pairs


def _expected(parts, points, counts, clean=None, mixed=False):
    """Returns value and gradients of one loss.

    Args:
      parts: value and gradients of the mean over the clean points.
      points: Points.
      counts: bool `[B, P]`, which points count.
      clean: bool `[B, P]`, which of these the given mean is over; None for those not broken.
      mixed: bool `[B, P]`, whose gradients depend on a broken point.
    """
    clean = counts & ~points.is_broken if clean is None else clean
    share = clean.sum() / max(counts.sum(), 1)
    value, of_pred, of_uncert = (part * share for part in parts)
    broken = counts & (points.true_is_broken | points.pred_is_broken)
    uncert_is_broken = counts & points.uncert_is_broken
    # A broken truth that does not count hides from the value, but not from its own gradient.
    is_open = mixed | (points.valid & points.is_broken)
    broken_3d, open_3d = (
        np.broadcast_to(x[..., np.newaxis], of_pred.shape) for x in (broken, is_open)
    )
    return (
        Expected(value, (broken | uncert_is_broken).any(), np.False_),
        Expected(of_pred, broken_3d, open_3d),
        Expected(of_uncert, uncert_is_broken, is_open),
    )


def _total(results, config, started):
    """Returns the sum of the losses; before its start the absolute one has no gradient."""
    value, *gradients = (a.plus(b) for a, b in zip(*map(results.get, SUMMED), strict=True))
    of_value, *of_gradients = results["loss3d_abs"]
    if started or np.isfinite(of_value.value):
        value = value.plus(of_value, config.absloss_factor, started)
    if started:
        pairs = zip(gradients, of_gradients, strict=True)
        gradients = [a.plus(b, config.absloss_factor) for a, b in pairs]
    return value, *gradients


def assert_expected(actual, expected, kind, context):
    """Asserts what `Expected` says; a point is not finite if one of its coordinates is not."""
    actual = np.asarray(actual)
    is_bad = ~np.isfinite(actual)
    if actual.ndim == 3:
        is_bad = np.broadcast_to(is_bad.any(-1, keepdims=True), is_bad.shape)
    lost = expected.is_broken & ~is_bad
    assert not lost.any(), f"{context}: a valid point's defect is lost in {lost.sum()} numbers"
    settled = ~(expected.is_broken | expected.is_open)
    reference = np.where(settled, expected.value, 0.0)
    actual = np.where(settled, actual, 0.0)
    closeness.assert_close(actual, reference, kind, context=context)
