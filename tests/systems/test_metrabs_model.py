"""The metrabs network: shapes, precision, independence of examples, layout of the head."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import heatmap
from metrabs_like.systems.metrabs import HeatmapDecoder, build_model, decode_head, tiny_config
from metrabs_like.systems.metrabs.model import HEAD_LAYER


@pytest.fixture(scope="module")
def model():
    return build_model(tiny_config())


def _inputs(rng, n, side=64):
    return {
        "image": rng.uniform(size=[n, side, side, 3]).astype(np.float32),
        "intrinsics": np.tile(np.diag([90.0, 90, 1]).astype(np.float32), [n, 1, 1]),
    }


def test_outputs(model, rng):
    outputs = model(_inputs(rng, 2))
    shapes = {key: tuple(value.shape) for key, value in outputs.items()}
    assert shapes == {"coords2d": (2, 24, 2), "coords3d_rel": (2, 24, 3), "uncert": (2, 24)}
    coords2d = outputs["coords2d"].numpy()
    assert coords2d.min() >= 8 and coords2d.max() <= 56  # centres of the first and last cell
    assert outputs["uncert"].numpy().min() > 0.001


def test_intrinsics_do_not_influence_the_network(model, rng):
    inputs = _inputs(rng, 2)
    other = {**inputs, "intrinsics": inputs["intrinsics"] * 2}
    np.testing.assert_array_equal(model(inputs)["coords2d"], model(other)["coords2d"])


def test_examples_are_independent_at_inference(model, rng):
    inputs = _inputs(rng, 3)
    alone = model({key: value[1:2] for key, value in inputs.items()})
    together = model(inputs)
    for key, value in alone.items():
        np.testing.assert_allclose(value[0], together[key][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_outputs_are_float32_under_every_policy(policy, rng):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = build_model(tiny_config())
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert model.get_layer("tiny").output.dtype in (policy[6:], tf.as_dtype(policy[6:]))
    outputs = model(_inputs(rng, 2))
    assert all(value.dtype == tf.float32 for value in outputs.values())
    assert all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in outputs.values())


def test_head_channels_are_point_major(model, rng):
    """A bias on the uncertainty channel of one point changes that point's uncertainty alone."""
    config = tiny_config()
    head = model.get_layer(HEAD_LAYER)
    inputs = _inputs(rng, 1)
    before = {key: value.numpy() for key, value in model(inputs).items()}
    weights = head.get_weights()
    changed = [w.copy() for w in weights]
    changed[1].reshape(config.n_points, 2 + config.depth)[5, 0] += 3
    head.set_weights(changed)
    after = {key: value.numpy() for key, value in model(inputs).items()}
    head.set_weights(weights)
    moved = np.abs(after["uncert"] - before["uncert"])[0] > 1e-3
    assert moved.tolist() == [i == 5 for i in range(24)]
    np.testing.assert_array_equal(after["coords2d"], before["coords2d"])
    np.testing.assert_array_equal(after["coords3d_rel"], before["coords3d_rel"])


def test_convention_a_peak_decodes_to_its_cell():
    decoder = HeatmapDecoder(1, depth=8, proc_side=64, stride=16, box_size_m=2.2)
    logits = np.zeros([1, 4, 4, 1, 10], np.float32)
    logits[0, 2, 1, 0, 2 + 7] = 100  # row 2, column 1, last depth bin
    logits[0, 3, 0, 0, 1] = 100  # metric-xy: row 3, column 0
    out = decoder(logits.reshape([1, 4, 4, 10]))
    np.testing.assert_allclose(out["coords2d"][0, 0], [16 * 1 + 8, 16 * 2 + 8], atol=1e-4)
    expected = [8 * 2.2 / 64, (48 + 8) * 2.2 / 64, 2.2]
    np.testing.assert_allclose(out["coords3d_rel"][0, 0], expected, atol=1e-5)


def test_decoder_equals_the_reference_in_values_and_gradients(rng):
    decoder = HeatmapDecoder(5, depth=6, proc_side=96, stride=16, uncert_bias=0.3)
    logits = tf.constant(rng.normal(size=[3, 6, 6, 5 * 8]) * 3, tf.float32)

    def reference(logits):
        heads = tf.transpose(tf.reshape(logits, [-1, 6, 6, 5, 8]), [0, 3, 1, 2, 4])
        coords2d, coords3d, uncert = decode_head(heads, uncert_bias=0.3)
        coords3d = heatmap.heatmap_to_metric(coords3d, decoder.grid, 2.2)
        coords2d = heatmap.heatmap_to_image(coords2d, decoder.grid)
        return {"coords2d": coords2d, "coords3d_rel": coords3d, "uncert": uncert}

    weights = {key: rng.normal(size=value.shape) for key, value in reference(logits).items()}
    results = []
    for function in (decoder, reference):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            outputs = function(logits)
            total = tf.add_n([tf.reduce_sum(outputs[k] * weights[k]) for k in weights])
        results.append([*tf.nest.flatten(outputs), tape.gradient(total, logits)])
    for ours, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


def test_unusual_sizes(rng):
    config = dataclasses.replace(tiny_config(), proc_side=96, stride=8, depth=5)
    outputs = build_model(config)(_inputs(rng, 1, 96))
    assert outputs["coords3d_rel"].shape == (1, 24, 3)
