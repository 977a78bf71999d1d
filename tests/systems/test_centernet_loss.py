"""The whole loss: weights, parts, stacks, masks, counts over micro-batches."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses.terms import combine
from metrabs_like.systems.centernet.config import Config, tiny_config
from metrabs_like.systems.centernet.loss import PARTS, compute_loss, expected_counts, loss_terms

TINY = dataclasses.replace(tiny_config(), skeleton="coco_17")
VARIANTS = {
    "default": TINY,
    "smooth": dataclasses.replace(TINY, regression_loss="sl1"),
    "dense": dataclasses.replace(TINY, dense_hp=True),
    "squared": dataclasses.replace(TINY, mse_loss=True),
    "no offset": dataclasses.replace(TINY, reg_offset=False, reg_hp_offset=False),
    "no joint maps": dataclasses.replace(TINY, hm_hp=False),
    "masks": dataclasses.replace(TINY, segmentation="3x3", seg_channels=3),
    "dice": dataclasses.replace(TINY, segmentation="1x1", seg_channels=3, seg_loss="dice"),
}
SHAPE, SLOTS, JOINTS = (6, 8), 4, 17
_MASK_OF = {
    "wh": "reg_mask",
    "reg": "reg_mask",
    "seg": "reg_mask",
    "hps": "hps_mask",
    "hp_offset": "hp_mask",
    "dense_hps": "dense_hps_mask",
}


def _targets(rng, n_images=2):
    """Targets of the form of `encode_targets`: some slots are used, some are not."""
    n_cells = SHAPE[0] * SHAPE[1]

    def heat(n_channels):
        maps = rng.uniform(0, 0.9, (n_images, *SHAPE, n_channels))
        maps[:, 2, 3] = 1  # a peak in each channel
        return maps

    valid = rng.random((n_images, SLOTS)) < 0.6
    valid[:, 0], valid[:, -1] = True, False
    truth = {
        "hm": heat(1),
        "hm_hp": heat(JOINTS),
        "reg_mask": valid,
        "hps_mask": (rng.random((n_images, SLOTS, 2 * JOINTS)) < 0.7) & valid[..., np.newaxis],
        "hp_mask": rng.random((n_images, SLOTS * JOINTS)) < 0.5,
        "wh": rng.uniform(1, 5, (n_images, SLOTS, 2)),
        "reg": rng.random((n_images, SLOTS, 2)),
        "hps": rng.normal(size=(n_images, SLOTS, 2 * JOINTS)) * 3,
        "hp_offset": rng.random((n_images, SLOTS * JOINTS, 2)),
        "dense_hps": rng.normal(size=(n_images, *SHAPE, 2 * JOINTS)),
        "dense_hps_mask": np.maximum(rng.normal(size=(n_images, *SHAPE, 2 * JOINTS)), 0),
    }
    truth = {name: value.astype(np.float32) for name, value in truth.items()}
    truth["ind"] = rng.integers(0, n_cells, (n_images, SLOTS)).astype(np.int32)
    truth["hp_ind"] = rng.integers(0, n_cells, (n_images, SLOTS * JOINTS)).astype(np.int32)
    truth["seg"] = rng.choice([0, 1, 255], size=(n_images, SLOTS, *SHAPE)).astype(np.uint8)
    return {"kp2d": truth}


def _outputs(rng, config, n_images=2):
    return {
        name: tf.constant(rng.normal(size=(n_images, *SHAPE, n)), tf.float32)
        for name, n in config.heads.items()
    }


def _loss_and_gradients(outputs, targets, config):
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        loss, parts = compute_loss(outputs, targets, config, 3)
    return loss, parts, tape.gradient(loss, outputs, unconnected_gradients="zero")


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_is_the_weighted_sum_of_its_parts(rng, name):
    config = VARIANTS[name]
    loss, parts, gradients = _loss_and_gradients(_outputs(rng, config), _targets(rng), config)
    weights = {"hm": 1, "wh": 0.1, "off": 1, "hp": 1, "hm_hp": 1, "hp_offset": 1, "seg": 1}
    expected = sum(weights[part] * value for part, value in parts.items() if part != "loss")
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert parts["loss"] == loss
    assert set(parts) == {"loss", *PARTS} | ({"seg"} if config.n_seg_weights else set())
    trained = {part for part, value in parts.items() if value > 0}
    missing = {"no offset": {"off", "hp_offset"}, "no joint maps": {"hm_hp", "hp_offset"}}
    assert set(parts) - trained == missing.get(name, set())
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


def test_weights_are_those_of_the_config(rng):
    weights = {"hm": 2.0, "wh": 0.5, "off": 0.7, "hp": 3.0, "hm_hp": 0.25, "seg": 0.3}
    fields = {f"{name}_weight": value for name, value in weights.items()}
    config = dataclasses.replace(VARIANTS["masks"], **fields)
    terms = loss_terms(_outputs(rng, config), _targets(rng), config, 0)
    assert {name: term.weight for name, term in terms.items()} == weights | {"hp_offset": 0.7}
    published = Config()
    assert (published.wh_weight, published.hm_weight, published.off_weight) == (0.1, 1.0, 1.0)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("n_images", [0, 3])
def test_counts_are_known_from_the_targets(rng, name, n_images):
    config, targets = VARIANTS[name], _targets(rng, n_images)
    terms = loss_terms(_outputs(rng, config, n_images), targets, config, 0)
    expected = expected_counts(targets, config)
    assert sorted(terms) == sorted(expected)
    for part, term in terms.items():
        assert float(term.count) == float(expected[part]), part
        assert n_images == 0 or term.count > 0


@pytest.mark.parametrize("name", VARIANTS)
def test_masked_targets_move_nothing(rng, name):
    config, targets = VARIANTS[name], _targets(rng)
    outputs = _outputs(rng, config)
    loss, _, gradients = _loss_and_gradients(outputs, targets, config)
    truth = dict(targets["kp2d"])
    for key, mask_name in _MASK_OF.items():
        mask = truth[mask_name] > 0
        mask = mask.reshape(*mask.shape, *[1] * (truth[key].ndim - mask.ndim))
        assert not mask.all()
        truth[key] = np.where(mask, truth[key], 7 if key == "seg" else np.nan)
    changed = _loss_and_gradients(outputs, {"kp2d": truth}, config)
    assert changed[0] == loss and np.isfinite(loss)
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(changed[2][key], gradient, err_msg=key)


def test_outputs_where_nobody_is_move_nothing(rng):
    """Broken regressions and filters in cells that only unused slots point to."""
    config, targets = VARIANTS["masks"], _targets(rng)
    truth = targets["kp2d"]
    truth["ind"][truth["reg_mask"] == 0] = 0
    truth["ind"][truth["reg_mask"] == 1] += truth["ind"][truth["reg_mask"] == 1] == 0
    truth["hp_ind"][:], truth["hp_mask"][:] = 0, 0
    outputs = _outputs(rng, config)
    loss, _, gradients = _loss_and_gradients(outputs, targets, config)
    broken = {}
    for key, value in outputs.items():
        value = value.numpy()
        if key in ("wh", "reg", "hps", "hp_offset", "seg"):
            value[:, 0, 0] = np.nan
        broken[key] = tf.constant(value)
    changed = _loss_and_gradients(broken, targets, config)
    assert changed[0] == loss and np.isfinite(loss)
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(changed[2][key], gradient, err_msg=key)


@pytest.mark.parametrize("name", VARIANTS)
def test_empty_batch_costs_nothing(rng, name):
    config = VARIANTS[name]
    outputs, targets = _outputs(rng, config, 0), _targets(rng, 0)
    loss, parts, gradients = _loss_and_gradients(outputs, targets, config)
    assert loss == 0 and all(value == 0 for value in parts.values())
    assert all(gradient.shape[0] == 0 for gradient in gradients.values())


def test_images_without_people_train_the_background(rng):
    config, targets = VARIANTS["masks"], _targets(rng)
    truth = targets["kp2d"]
    for key in truth:
        truth[key] = np.zeros_like(truth[key])
    loss, parts, gradients = _loss_and_gradients(_outputs(rng, config), targets, config)
    np.testing.assert_allclose(loss, parts["hm"] + parts["hm_hp"], rtol=1e-6)
    assert (gradients["hm"].numpy() > 0).all() and (gradients["hm_hp"].numpy() > 0).all()
    assert not any(np.any(gradients[head]) for head in ("wh", "hps", "reg", "hp_offset", "seg"))


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "masks"])
def test_micro_batches_equal_the_whole(rng, name):
    """As training does it: totals of the parts over the counts of the whole update."""
    config, targets = VARIANTS[name], _targets(rng, 4)
    outputs = _outputs(rng, config, 4)
    loss, _, gradients = _loss_and_gradients(outputs, targets, config)
    halves = [
        (
            {key: value[part] for key, value in outputs.items()},
            {"kp2d": {key: value[part] for key, value in targets["kp2d"].items()}},
        )
        for part in (slice(0, 1), slice(1, 4))
    ]
    counts = [expected_counts(truth, config) for _, truth in halves]
    counts = {part: counts[0][part] + counts[1][part] for part in counts[0]}
    total, of_parts = 0.0, []
    for half, truth in halves:
        with tf.GradientTape() as tape:
            tape.watch(half)
            share, _ = combine(loss_terms(half, truth, config, 0), counts)
        total += share
        of_parts.append(tape.gradient(share, half))
    # the release's 1e-4 is in each part's count: some 1e-4 / 20
    np.testing.assert_allclose(total, loss, rtol=1e-5)
    for key, gradient in gradients.items():
        joined = tf.concat([part[key] for part in of_parts], axis=0)
        np.testing.assert_allclose(joined, gradient, rtol=3e-5, atol=1e-7, err_msg=key)


def test_masks_of_micro_batches_are_weighted_by_their_number(rng):
    config, targets = VARIANTS["masks"], _targets(rng)
    outputs = _outputs(rng, config)
    terms = [
        loss_terms(
            {key: value[i : i + 1] for key, value in outputs.items()},
            {"kp2d": {key: value[i : i + 1] for key, value in targets["kp2d"].items()}},
            config,
            0,
        )["seg"]
        for i in (0, 1)
    ]
    used = targets["kp2d"]["reg_mask"].sum(axis=1)
    np.testing.assert_array_equal([term.count for term in terms], used)
    means = [float(term.mean()) for term in terms]
    combined = combine({"seg": terms[0]}, {"seg": used.sum()})[0]
    combined += combine({"seg": terms[1]}, {"seg": used.sum()})[0]
    np.testing.assert_allclose(combined, np.average(means, weights=used), rtol=1e-6)


@pytest.mark.parametrize("name", ["masks", "dice"])
def test_people_without_a_mask_are_not_counted(rng, name):
    """They are trained, but nobody has drawn them: an unlabelled mask is not a wrong one."""
    config, targets = VARIANTS[name], _targets(rng)
    truth = targets["kp2d"]
    truth["reg_mask"][:] = 1
    truth["seg"][0, 1:], truth["seg"][1] = 255, 255
    outputs = _outputs(rng, config)
    found = loss_terms(outputs, targets, config, 0)["seg"]
    truth["reg_mask"][:] = 0
    truth["reg_mask"][0, 0] = 1
    alone = loss_terms(outputs, targets, config, 0)["seg"]
    truth["reg_mask"][:] = 1
    assert float(found.count) == float(alone.count) == 1
    assert float(found.total) == float(alone.total) > 0
    assert float(expected_counts(targets, config)["seg"]) == 1
    truth["seg"][:] = 255
    nobody = loss_terms(outputs, targets, config, 0)["seg"]
    assert float(nobody.count) == float(nobody.total) == float(nobody.mean()) == 0
    assert float(expected_counts(targets, config)["seg"]) == 0


def test_stacks_are_averaged_each_with_one_sigmoid(rng):
    targets = _targets(rng)
    first, second = _outputs(rng, TINY), _outputs(rng, TINY)
    losses = [compute_loss(outputs, targets, TINY, 0) for outputs in (first, second)]
    loss, parts = compute_loss([first, second], targets, TINY, 0)
    np.testing.assert_allclose(loss, (losses[0][0] + losses[1][0]) / 2, rtol=1e-6)
    for part in PARTS:
        mean = (losses[0][1][part] + losses[1][1][part]) / 2
        np.testing.assert_allclose(parts[part], mean, rtol=1e-6)
    np.testing.assert_allclose(compute_loss([first], targets, TINY, 0)[0], losses[0][0])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_float32_under_mixed_precision(rng, dtype):
    config, targets = VARIANTS["masks"], _targets(rng)
    half = {name: tf.cast(value, dtype) for name, value in _outputs(rng, config).items()}
    loss, _, gradients = _loss_and_gradients(half, targets, config)
    full = {name: tf.cast(value, tf.float32) for name, value in half.items()}
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, compute_loss(full, targets, config, 0)[0], rtol=1e-6)
    assert all(gradient.dtype == dtype for gradient in gradients.values())


def test_compiles_with_unknown_sizes(rng):
    """Without masks, which `tests/losses` compiles: that takes seconds."""
    config, targets = TINY, _targets(rng)
    outputs = _outputs(rng, config)
    used = [*config.heads, "ind", "hp_ind", "reg_mask", "hps_mask", "hp_mask"]
    targets = {"kp2d": {key: v for key, v in targets["kp2d"].items() if key in used}}
    unknown = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *(None for _ in x.shape[1:-1]), x.shape[-1]], x.dtype),
        (outputs, {"kp2d": {key: tf.constant(v) for key, v in targets["kp2d"].items()}}),
    )

    @tf.function(input_signature=unknown, jit_compile=True, autograph=False)
    def compiled(outputs, targets):
        loss, _, gradients = _loss_and_gradients(outputs, targets, config)
        return loss, gradients

    loss, _, gradients = _loss_and_gradients(outputs, targets, config)
    own_loss, own_gradients = compiled(outputs, targets)
    np.testing.assert_allclose(own_loss, loss, rtol=1e-5)
    for key, gradient in gradients.items():
        np.testing.assert_allclose(own_gradients[key], gradient, rtol=1e-3, atol=1e-6)


def test_what_is_missing_is_named(rng):
    outputs, targets = _outputs(rng, TINY), _targets(rng)
    without = {key: value for key, value in outputs.items() if key != "wh"}
    with pytest.raises(ValueError, match=r"lacks the heads \['wh'\]"):
        compute_loss(without, targets, TINY, 0)
    truth = {key: value for key, value in targets["kp2d"].items() if key != "hp_ind"}
    with pytest.raises(ValueError, match=r"lacks \['hp_ind'\]"):
        compute_loss(outputs, {"kp2d": truth}, TINY, 0)
    with pytest.raises(ValueError, match=r"outputs=\[\]"):
        compute_loss([], targets, TINY, 0)
