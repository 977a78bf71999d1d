"""Golden tests of centernet's losses."""

import dataclasses
import re

import numpy as np
import tensorflow as tf

from metrabs_like.losses import focal, regression
from metrabs_like.systems.centernet import test_time
from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.loss import PARTS, compute_loss
from metrabs_like.systems.centernet.peaks import gather_cells
from tests.golden import npz_cases
from tests.golden.closeness import assert_close

# Sums of some thousand float32 terms, in another order than the reference's.
_STATS_RTOL = 2e-5


def nhwc(array):
    """Returns channels-last float32 maps."""
    return np.moveaxis(np.asarray(array, np.float32), 1, -1)


def nchw(tensor):
    """Returns channels-first maps, as the files have them."""
    return np.moveaxis(np.asarray(tensor), -1, 1)


def stats(array):
    """Returns sum, mean, standard deviation, largest absolute value and sum of squares."""
    array = np.asarray(array, np.float64)
    return np.array(
        [array.sum(), array.mean(), array.std(), np.abs(array).max(), np.square(array).sum()]
    )


def assert_stats_close(actual, expected, context):
    """Compares `stats` of an array; a sum is as exact as the sum of absolute values."""
    scale = np.array([np.abs(actual).sum(), np.abs(actual).mean(), *expected[2:]])
    error = np.abs(stats(actual) - expected)
    assert (error <= _STATS_RTOL * scale + 1e-9).all(), f"{context}: {stats(actual)}, {expected}"


def check_known(path, name, known):
    """Fails on a key that no test compares."""
    assert name in known, f"{path}: no test compares {name!r}"


# losses.npz: one case per result ------------------------------------------------------------------

_INPUTS = {
    "focal_logits",
    "focal_gt",
    "focal_nopos_gt",
    "reg_output",
    "reg_ind",
    "reg_mask",
    "reg_target",
    "wl1_output",
    "wl1_mask",
    "wl1_target",
}


def _loss_cases(path):
    return [key for key in npz_cases.load(path) if key not in _INPUTS]


def _focal(arrays, gt_key):
    logits = tf.constant(arrays["focal_logits"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        probabilities = focal.clamped_sigmoid(logits)
        loss = focal.focal_term(probabilities, arrays[gt_key]).mean()
    return {
        "prob": probabilities,
        "loss": loss,
        "loss_slow_form": loss,
        "grad_logits": tape.gradient(loss, logits),
        "grad_prob": tape.gradient(loss, probabilities),
    }


def _regression(arrays, term, is_zero_mask):
    maps = tf.constant(nhwc(arrays["reg_output"]))
    mask = arrays["reg_mask"] * (not is_zero_mask)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        gathered = gather_cells(maps, arrays["reg_ind"])
        loss = term(gathered, arrays["reg_target"], mask).mean()
    return {"gathered": gathered, "loss": loss, "grad": nchw(tape.gradient(loss, maps))}


def _weighted(arrays):
    maps = tf.constant(nhwc(arrays["wl1_output"]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        gathered = gather_cells(maps, arrays["reg_ind"])
        loss = regression.weighted_l1_term(
            gathered, arrays["wl1_target"], arrays["wl1_mask"]
        ).mean()
    gradient = tape.gradient(loss, maps)
    return {
        "loss": loss,
        # Read at the cells: where slots share a cell, each reads the sum.
        "grad_gathered": gather_cells(gradient, arrays["reg_ind"]),
        "grad_stats": nchw(gradient),
    }


# Prefix of keys -> their results.
_GROUPS = {
    "focal_nopos_": lambda arrays: _focal(arrays, "focal_nopos_gt"),
    "focal_": lambda arrays: _focal(arrays, "focal_gt"),
    "reg_": lambda arrays: _regression(arrays, regression.l1_term, False),
    "regl1_": lambda arrays: _regression(arrays, regression.l1_term, False),
    "regl1_zeromask_": lambda arrays: _regression(arrays, regression.l1_term, True),
    "regsl1_": lambda arrays: _regression(arrays, regression.smooth_l1_term, False),
    "regsl1_zeromask_": lambda arrays: _regression(arrays, regression.smooth_l1_term, True),
    "wl1_": _weighted,
}


def _check_losses(path, name):
    arrays = npz_cases.load(path)
    prefixes = [prefix for prefix in _GROUPS if name.startswith(prefix)]
    assert prefixes, f"{path}: no test compares {name!r}"
    prefix = max(prefixes, key=len)
    results = _GROUPS[prefix](arrays)
    check_known(path, name, [prefix + key for key in results])
    result = results[name.removeprefix(prefix)]
    if name.endswith("_stats"):
        assert_stats_close(result, arrays[name], name)
        return
    kind = "grad" if "grad" in name else "exact" if name == "reg_gathered" else "value"
    assert_close(result, arrays[name], kind, context=name)


# multi_pose_loss.npz: one case per result ---------------------------------------------------------

_CONFIGS = {
    "default": {},
    "sl1": {"regression_loss": "sl1"},
    "dense": {"dense_hp": True},
    "mse": {"mse_loss": True},
    "nohmhp": {"hm_hp": False},
    "weights": {
        "hm_weight": 2.0,
        "wh_weight": 0.5,
        "off_weight": 0.7,
        "hp_weight": 3.0,
        "hm_hp_weight": 0.25,
    },
}
_TWO_STACKS = re.compile(r"two_stacks_shift(\d)(\d+)")  # by how much the second differs
_PART_OF = {"loss": "loss", **{f"{name}_loss": name for name in PARTS}}


def _total_cases(path):
    arrays = npz_cases.load(path)
    return [
        key for key in arrays if not key.startswith(("batch_", "out_", "stat_names", "flip"))
    ] + [key for key in arrays if key.startswith("flip") and key.endswith("_out")]


def _network_outputs(arrays):
    names = [key for key in arrays if key.startswith("out_")]
    return {key.removeprefix("out_"): tf.constant(nhwc(arrays[key])) for key in names}


def _targets(arrays):
    truth = {
        key.removeprefix("batch_"): nhwc(value) if value.ndim == 4 else value
        for key, value in arrays.items()
        if key.startswith("batch_")
    }
    return {"kp2d": truth}


def _total(arrays, case):
    """The seven numbers, and the gradients of the first with respect to the raw maps."""
    stacked = _TWO_STACKS.fullmatch(case)
    config = dataclasses.replace(Config(), **({} if stacked else _CONFIGS[case]))
    outputs = _network_outputs(arrays)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        stacks = [outputs]
        if stacked:
            shift = float("{}.{}".format(*stacked.groups()))
            stacks.append({name: value + shift for name, value in outputs.items()})
        loss, parts = compute_loss(stacks, _targets(arrays), config, 0)
    numbers = [parts[_PART_OF[str(name)]] for name in arrays["stat_names"]]
    return np.array(numbers, np.float64), tape.gradient(loss, outputs)


def _check_total(path, name):
    arrays = npz_cases.load(path)
    if name.startswith("flip"):
        _check_flip(arrays, name)
        return
    quantity, _, rest = name.partition("_")
    if quantity == "loss":
        # A sum of float32 terms in another order; the reference's numbers are float32, too.
        np.testing.assert_allclose(_total(arrays, rest)[0], arrays[name], rtol=5e-6, err_msg=name)
        return
    case, _, head = rest.partition("_")
    check_known(path, name, [f"{q}_{case}_{head}" for q in ("grad", "gradstats")])
    gradient = nchw(_total(arrays, case)[1][head])
    if quantity == "gradstats":
        assert_stats_close(gradient, arrays[name], name)
    else:
        gradient = gradient[:, : arrays[name].shape[1]]  # of the joint maps, some are stored
        assert_close(gradient, arrays[name], "grad", context=name)


def mirror_pairs(n_joints):
    """COCO's order: the nose, then left and right in turn."""
    pairs = [joint + 1 if joint % 2 else joint - 1 for joint in range(1, n_joints)]
    return [0, *(min(joint, n_joints - 1) for joint in pairs)]


def _check_flip(arrays, name):
    maps = nhwc(arrays[name.removesuffix("_out") + "_in"])
    mirrored = {
        "flip_out": lambda: test_time.mirrored_map(maps),
        "flip_lr_out": lambda: test_time.mirrored_joint_maps(maps, mirror_pairs(maps.shape[3])),
        "flip_lr_off_out": lambda: test_time.mirrored_offsets(
            maps, mirror_pairs(maps.shape[3] // 2)
        ),
    }
    assert_close(nchw(mirrored[name]()), arrays[name], "exact", context=name)


FILES = {
    "losses": npz_cases.FileTest(_loss_cases, _check_losses),
    "multi_pose_loss": npz_cases.FileTest(_total_cases, _check_total),
}
