"""The localizer field: any point of the body, joints among them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.geometry.heatmap import heatmap_to_image, heatmap_to_metric
from metrabs_like.systems.metrabs import build_model, decode_features, tiny_config
from metrabs_like.systems.metrabs.canonical import SymmetricLayout, joint_guesses
from metrabs_like.systems.metrabs.field import LocalizerField

SKELETON = skeletons.get("smpl_24+coco_17")
DECODER = {"depth": 5, "proc_side": 64, "stride": 16}
CONFIG = dataclasses.replace(tiny_config(), head="field", field_width=16, field_link_dim=8)


@pytest.fixture(autouse=True)
def _seeded():
    tf.keras.utils.set_random_seed(5)


def make_field(**decoder):
    return LocalizerField(SKELETON, DECODER | decoder, width=16, n_frequencies=4)


def inputs_of(rng, n_images=3, n_asked=3, n_points=5, n_channels=6):
    features = rng.normal(size=[n_images, 4, 4, n_channels])
    points = rng.uniform(-0.8, 0.8, [n_asked, n_points, 3])
    return [tf.constant(features, tf.float32), tf.constant(points, tf.float32)]


def decoded_by_definition(field, features, points):
    """The released definition: a 1x1 convolution of its own for every point."""
    coords2d, coords3d, uncert = decode_features(features, field.point_weights(points))
    grid = field.decoder.grid
    return {
        "coords2d": heatmap_to_image(coords2d, grid),
        "coords3d_rel": heatmap_to_metric(coords3d, grid, field.decoder.box_size_m),
        "uncert": uncert,
    }


@pytest.mark.parametrize("n_asked", [3, 2, 0])
def test_points_and_joints_are_those_of_the_definition(rng, n_asked):
    field = make_field()
    features, points = inputs_of(rng, n_asked=n_asked)
    found = field([features, points])
    expected = decoded_by_definition(field, features[:n_asked], points)
    for key, value in expected.items():
        assert found[f"points_{key}"].shape[:2] == (n_asked, 5)
        np.testing.assert_allclose(found[f"points_{key}"], value, atol=1e-4)
    expected = decoded_by_definition(field, features, field.canonical_joints())
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-4)


def test_asking_for_the_joints_gives_the_joints(rng):
    field = make_field(with_log_heatmap=True)
    features, _ = inputs_of(rng)
    field([features, tf.zeros([0, 0, 3])])
    joints = tf.tile(field.canonical_joints()[tf.newaxis], [3, 1, 1])
    found = field([features, joints])
    for key in ("coords2d", "coords3d_rel", "uncert", "log_heatmap"):
        np.testing.assert_allclose(found[f"points_{key}"], found[key], atol=1e-4)


def test_points_do_not_see_each_other(rng):
    field = make_field()
    features, points = inputs_of(rng)
    expected = field([features, points])["points_coords3d_rel"]
    order = rng.permutation(5)
    found = field([features, tf.gather(points, order, axis=1)])["points_coords3d_rel"]
    np.testing.assert_allclose(found, expected.numpy()[:, order], atol=1e-5)


def test_gradients_reach_features_points_and_every_weight(rng):
    field = make_field()
    features, points = inputs_of(rng)
    field([features, points])
    with tf.GradientTape() as tape:
        tape.watch([features, points])
        outputs = field([features, points])
        loss = sum(tf.reduce_sum(v * tf.cos(v)) for v in outputs.values())
    variables = field.trainable_variables
    gradients = tape.gradient(loss, [features, points, *variables])
    # what is no matrix is not decayed by optimizers
    assert len(field.joint_positions.shape) == 1
    assert len(variables) == 6  # joint positions, three kernels, two biases
    assert all(g is not None and np.abs(g).max() > 0 for g in gradients)


def test_the_gradient_of_a_point_is_that_of_differences(rng):
    field = make_field()
    features, points = inputs_of(rng, 1, 1, 1)

    def loss(points):
        return tf.reduce_sum(field([features, points])["points_coords3d_rel"])

    with tf.GradientTape() as tape:
        tape.watch(points)
        value = loss(points)
    gradient = tape.gradient(value, points).numpy()
    step = 4e-3
    for axis in range(3):
        shift = step * tf.one_hot([[axis]], 3)
        difference = (loss(points + shift) - loss(points - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[0, 0, axis], difference, rtol=0.05, atol=2e-4)


def test_unknown_sizes_and_half_precision(rng):
    field = make_field()
    features, points = inputs_of(rng, n_points=2)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4, 4, 6], tf.bfloat16),
            tf.TensorSpec([None, None, 3], tf.float32),
        ],
        autograph=False,
    )
    def call(features, points):
        return field([features, points])

    found = call(tf.cast(features, tf.bfloat16), points)
    assert {value.dtype for value in found.values()} == {tf.float32}
    np.testing.assert_allclose(
        found["points_coords2d"], field([features, points])["points_coords2d"], atol=1.0
    )
    assert call(tf.zeros([0, 4, 4, 6], tf.bfloat16), tf.zeros([0, 7, 3]))["coords2d"].shape[0] == 0


def test_xla_gives_the_same(rng):
    field = make_field()
    inputs = inputs_of(rng)
    compiled = tf.function(lambda *args: field(list(args)), jit_compile=True, autograph=False)
    for key, value in field(inputs).items():
        np.testing.assert_allclose(compiled(*inputs)[key], value, atol=1e-4)


def test_joint_positions_stay_mirror_symmetric_in_training(rng):
    field = make_field()
    features, points = inputs_of(rng)
    optimizer = tf.keras.optimizers.SGD(0.1)
    field([features, points])
    before = field.canonical_joints().numpy()
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(field([features, points])["coords3d_rel"] ** 2)
        variables = field.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    after = field.canonical_joints().numpy()
    assert np.abs(after - before).max() > 1e-4
    mirror = list(SKELETON.mirror_indices)
    np.testing.assert_array_equal(after[mirror] * [-1, 1, 1], after)


@pytest.mark.parametrize("name", ["smpl_24", "coco_17", "h36m_17", "body_25", "mads_19"])
def test_guesses_are_plausible_for_every_built_in_skeleton(name):
    skeleton = skeletons.get(name)
    guesses = joint_guesses(skeleton)
    np.testing.assert_allclose(guesses[list(skeleton.mirror_indices)], guesses * [-1, 1, 1])
    lengths = [np.linalg.norm(guesses[a] - guesses[b]) for a, b in skeleton.edges]
    assert 0.02 < min(lengths) and max(lengths) < 0.75
    left = [i for i, joint in enumerate(skeleton.joint_names) if joint.startswith("l")]
    assert (guesses[left, 0] > 0).all()


def test_unknown_joints_start_near_the_pelvis_on_their_side():
    skeleton = skeletons.Skeleton("odd", ("left_paw", "right_paw", "tail"))
    np.testing.assert_allclose(joint_guesses(skeleton), [[0.1, 0, 0], [-0.1, 0, 0], [0, 0, 0]])


def test_layout_has_one_set_of_numbers_a_pair():
    layout = SymmetricLayout(SKELETON)
    assert len(layout.free) == sum(i <= m for i, m in enumerate(SKELETON.mirror_indices))
    numbers = tf.random.stateless_normal([len(layout.free), 3], [1, 2])
    positions = layout.positions(numbers).numpy()
    middle = [i for i, m in enumerate(SKELETON.mirror_indices) if i == m]
    np.testing.assert_array_equal(positions[middle, 0], 0)


def test_config_round_trip_of_the_layer(rng):
    field = make_field()
    inputs = inputs_of(rng)
    expected = field(inputs)
    again = LocalizerField.from_config(field.get_config())
    again(inputs)
    again.set_weights(field.get_weights())
    for key, value in again(inputs).items():
        np.testing.assert_array_equal(value, expected[key])


def test_the_model_answers_for_any_number_of_points(rng):
    model = build_model(CONFIG)
    image = tf.constant(rng.uniform(size=[2, 64, 64, 3]), tf.float32)
    intrinsics = tf.eye(3, batch_shape=[2])
    for n_points in (0, 1, 4):
        points = tf.zeros([2, n_points, 3])
        inputs = {"image": image, "intrinsics": intrinsics, "canonical_points": points}
        outputs = model(inputs, training=False)
        assert outputs["points_coords3d_rel"].shape == (2, n_points, 3)
        assert outputs["coords3d_rel"].shape == (2, 24, 3)
    empty = {key: value[:0] for key, value in inputs.items()}
    assert all(value.shape[0] == 0 for value in model(empty, training=False).values())
