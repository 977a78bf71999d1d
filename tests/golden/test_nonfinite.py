"""The golden tests notice a defect that is lost, and one that spreads where it must not."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import absolute
from metrabs_like.losses import metric3d
from tests.golden import nonfinite, npz_cases
from tests.golden import test_golden_metric3d as golden
from tests.golden.nonfinite import Ours
from tests.losses.batches import make_batch

NAN = np.float32(np.nan)


def write_case(folder, stem, arrays):
    """Writes a golden file of one case and returns the case."""
    path = folder / "metric3d" / f"{stem}.npz"
    path.parent.mkdir()
    shared = {key: x for key, x in arrays.items() if key.startswith("flag")}
    own = {f"c00_{key}": x for key, x in arrays.items() if key not in shared}
    np.savez(path, case_names=np.array(["weak"]), **shared, **own)
    return npz_cases.cases_of(path)[0]


def reference_point_case(rng, folder, bad_point):
    """A reference point of two examples, of which the first has NaN at a point; 5 is masked."""
    arrays = {
        "in_normalized_2d": rng.normal(size=(2, 6, 2)).astype(np.float32),
        "in_coords3d_rel": rng.normal(size=(2, 6, 3)).astype(np.float32),
        "in_w": rng.normal(size=(2, 3)).astype(np.float32),
        "in_mask": np.tile(np.arange(6) != 5, (2, 1)),
        "flag_fullpersp_l2_regul": np.float64(1e-4),
    }
    args = [arrays[key] for key in ("in_normalized_2d", "in_coords3d_rel", "in_mask")]
    arrays["out_ref"] = absolute.reconstruct_ref_weakpersp(*args).numpy()
    # As the released code: NaN, masked or not, poisons its example.
    arrays["in_coords3d_rel"][0, bad_point, 0] = NAN
    arrays["out_ref"][0] = NAN
    return write_case(folder, "recon_ref", arrays)


@pytest.mark.parametrize("bad_point", [0, 5])
def test_the_cause_of_nan_decides_what_ours_must_be(rng, tmp_path, bad_point):
    case = reference_point_case(rng, tmp_path, bad_point)
    golden.test_agrees_with_the_released_code(case)
    is_masked = bad_point == 5
    prescribed = nonfinite.prescribe(case, "out_ref", case["out_ref"])
    assert (prescribed[0] == (Ours.FINITE if is_masked else Ours.NONFINITE)).all()
    wrong = np.where(is_masked, NAN, np.ones((2, 3), np.float32))
    with pytest.raises(AssertionError, match="masked point makes" if is_masked else "is lost"):
        nonfinite.assert_prescribed(wrong, case["out_ref"], prescribed, "wrong")


def test_a_finite_value_is_compared_where_the_reference_has_none(rng, tmp_path, monkeypatch):
    case = reference_point_case(rng, tmp_path, 5)
    ours = absolute.reconstruct_ref_weakpersp
    monkeypatch.setattr(absolute, "reconstruct_ref_weakpersp", lambda *args: ours(*args) + 1e-3)
    with pytest.raises(AssertionError, match="out_ref: 6 of 6 differ"):
        golden.test_agrees_with_the_released_code(case)


def loss_case(rng, folder, bad_point):
    """A 2D loss that NaN makes 0, as in the released code; point 3 of each example is masked."""
    inps, preds = make_batch(rng, 3, 8)
    preds["coords3d_abs"][0, bad_point, 0] = NAN
    arrays = {f"in_{key}": x for key, x in {**inps, **preds}.items() if "3d_true" not in key}
    arrays |= {"out_loss": np.float32(0), "grad_uncert": np.zeros((3, 8), np.float32)}
    arrays["grad_coords3d_abs"] = np.zeros((3, 8, 3), np.float32)
    flags = {"proc_side": 256, "stride_train": 32, "centered_stride": True}
    arrays |= {f"flag_{key}": np.array(value) for key, value in flags.items()}
    return write_case(folder, "loss2d_gt", arrays)


def hide_nan(loss):
    """Turns a NaN loss into 0."""
    return tf.where(tf.math.is_nan(loss), tf.zeros_like(loss), loss)


@pytest.mark.parametrize(
    ("bad_point", "defect", "message"),
    [
        (0, hide_nan, "out_loss: a valid point's defect is lost"),
        (0, lambda loss: loss, None),
        (3, lambda loss: loss + NAN, "out_loss: 1 of 1 differ"),
        (3, lambda loss: loss * 1.001, "out_loss: 1 of 1 differ"),
        (3, lambda loss: 1.001 * loss - tf.stop_gradient(0.001 * loss), "grad_.* differ"),
        (3, lambda loss: loss, None),
    ],
)
def test_defects_of_losses_are_noticed(rng, tmp_path, monkeypatch, bad_point, defect, message):
    case, ours = loss_case(rng, tmp_path, bad_point), metric3d.compute_loss_with_2d_gt
    monkeypatch.setattr(metric3d, "compute_loss_with_2d_gt", lambda *args: defect(ours(*args)))
    if message is None:
        golden.test_agrees_with_the_released_code(case)
        return
    with pytest.raises(AssertionError, match=message):
        golden.test_agrees_with_the_released_code(case)


def test_gradients_of_other_examples_are_compared(rng, tmp_path, monkeypatch):
    case, ours = loss_case(rng, tmp_path, 0), metric3d.compute_loss_with_2d_gt

    @tf.custom_gradient
    def poison(x):
        return x, lambda upstream: upstream + tf.reduce_sum(upstream) * 0

    def poisoned(inps, preds, config):
        preds = {**preds, "coords3d_abs": poison(preds["coords3d_abs"])}
        return ours(inps, preds, config)

    monkeypatch.setattr(metric3d, "compute_loss_with_2d_gt", poisoned)
    with pytest.raises(AssertionError, match="grad_coords3d_abs: .* differ"):
        golden.test_agrees_with_the_released_code(case)
