"""What body parameters and surface points say about a crop."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import records
from metrabs_like.geometry import smpl
from metrabs_like.geometry.camera import project_pose
from metrabs_like.geometry.surface import sample_surface_points
from metrabs_like.systems import metrabs
from metrabs_like.systems.metrabs.canonical import surface_to_canonical
from metrabs_like.systems.metrabs.supervision import check_source, make_targets
from tests.systems.metrabs_batches import make_batch, make_point_batch, mirrored

FIXED = dataclasses.replace(metrabs.tiny_config(), skeleton="coco_17+smpl_24")
FIELD = dataclasses.replace(FIXED, head="field", n_surface_points=7, field_width=16)
BODY = FIELD.body
SEED = tf.constant([1, 2])
N_JOINTS = FIELD.n_points


@pytest.fixture(autouse=True)
def _seeded():
    tf.keras.utils.set_random_seed(3)


def in_crop(points, part):
    to_crop = part["crop_from_body"].numpy()
    return points.numpy() @ to_crop[:, :, :3].swapaxes(1, 2) + to_crop[:, None, :, 3]


def parameters(part):
    return part["pose_rotvecs"], part["shape_betas"]


def test_body_joints_become_the_models_joints(rng):
    part = make_point_batch(rng, 3, FIXED, "param")
    targets = make_targets("param", part, FIXED, SEED)
    valid = targets["point_validity"].numpy()
    is_smpl = [name.endswith("_smpl") for name in FIXED.joints.joint_names]
    np.testing.assert_array_equal(valid, np.tile(is_smpl, [3, 1]))
    joints = smpl.pose_joints(BODY, *parameters(part), part["translation"])
    np.testing.assert_allclose(targets["coords3d_true"][:, 17:], in_crop(joints, part), atol=1e-5)
    pixels = project_pose(targets["coords3d_true"], part["intrinsics"]).numpy()
    np.testing.assert_allclose(targets["coords2d_true"], np.where(valid[..., None], pixels, 0))
    assert targets["canonical_points"].shape == (3, 0, 3)


def test_surface_points_are_those_of_the_posed_mesh(rng):
    part = make_point_batch(rng, 3, FIELD, "param")
    targets = make_targets("param", part, FIELD, SEED)
    ids, weights = sample_surface_points(BODY, [3, 7], SEED)
    points = smpl.pose_points(BODY, *parameters(part), ids, weights, part["translation"])
    found = targets["coords3d_true"][:, N_JOINTS:]
    np.testing.assert_allclose(found, in_crop(points, part), atol=1e-5)
    canonical = surface_to_canonical(BODY, ids, weights)
    np.testing.assert_allclose(targets["canonical_points"], canonical)
    assert targets["point_validity"][:, N_JOINTS:].numpy().all()


def test_canonical_points_of_the_canonical_pose_are_the_points_themselves(rng):
    """A person in T-pose with the mean shape: only rigid motion lies between the two."""
    part = make_point_batch(rng, 1, FIELD, "param")
    part["pose_rotvecs"] = tf.constant(BODY.canonical_pose_rotvecs[np.newaxis])
    part["shape_betas"] = tf.zeros([1, 10])
    targets = make_targets("param", part, FIELD, SEED)
    pelvis = targets["coords3d_true"][0, FIELD.joints.index("pelv_smpl")]
    found = (targets["coords3d_true"][0, N_JOINTS:] - pelvis).numpy()
    expected = targets["canonical_points"][0].numpy() @ np.diag([1, -1, -1])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mirrored_crop_shows_the_other_side(rng):
    part = make_point_batch(rng, 2, FIELD, "param")
    plain = make_targets("param", part, FIELD, SEED)
    flipped = make_targets("param", mirrored(part), FIELD, SEED)
    mirror = [*FIELD.joints.mirror_indices, *range(N_JOINTS, N_JOINTS + 7)]
    expected = plain["coords3d_true"].numpy()[:, mirror] * [-1, 1, 1]
    np.testing.assert_allclose(flipped["coords3d_true"], expected, atol=1e-6)
    expected = plain["canonical_points"].numpy() * [-1, 1, 1]
    np.testing.assert_array_equal(flipped["canonical_points"], expected)
    dense = make_point_batch(rng, 2, FIELD, "dense")
    expected = make_targets("dense", dense, FIELD, SEED)["canonical_points"].numpy() * [-1, 1, 1]
    found = make_targets("dense", mirrored(dense), FIELD, SEED)["canonical_points"]
    np.testing.assert_array_equal(found, expected)


def test_surface_labels_follow_the_joints(rng):
    part = make_point_batch(rng, 2, FIELD, "dense")
    targets = make_targets("dense", part, FIELD, SEED)
    assert not targets["point_validity"][:, :N_JOINTS].numpy().any()
    for name in ("coords2d_true", "point_validity"):
        np.testing.assert_array_equal(targets[name][:, N_JOINTS:], part[name])
    assert "coords3d_true" not in targets


def test_kinds_with_points_come_first_and_all_train_together(rng):
    model = metrabs.build_model(FIELD)
    batch = make_batch(rng, 2, FIELD)
    batch |= {kind: make_point_batch(rng, 3, FIELD, kind) for kind in ("dense", "param")}
    inputs, targets = metrabs.prepare(batch, FIELD, SEED)
    assert inputs["image"].shape[0] == 10 and inputs["canonical_points"].shape == (6, 7, 3)
    np.testing.assert_array_equal(inputs["intrinsics"][:3], batch["param"]["intrinsics"])
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss, means = metrabs.compute_loss(outputs, targets, FIELD, 100)
    assert np.isfinite(loss)
    names_3d = {"loss3d", "loss3d_abs", "loss2d", "error_px"}
    for kind in ("param", "kp3d", "dense", "kp2d"):
        names = {name.partition("/")[2] for name in means if name.startswith(f"{kind}/")}
        assert names == (names_3d if kind in ("param", "kp3d") else {"loss2d", "error_px"})
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
    counts = metrabs.expected_counts(targets, FIELD)
    assert set(counts) == set(means)
    n_param = 3 * (24 + 7)
    assert float(counts["param/error_px"]) == n_param == float(counts["param/loss3d"])


def test_each_kinds_loss_sees_only_its_own_examples(rng):
    """Moving the labels of one kind changes that kind's terms alone."""
    model = metrabs.build_model(FIELD)
    batch = make_batch(rng, 2, FIELD)
    batch |= {kind: make_point_batch(rng, 2, FIELD, kind) for kind in ("dense", "param")}

    def terms(batch):
        inputs, targets = metrabs.prepare(batch, FIELD, SEED)
        return metrabs.compute_loss(model(inputs, training=False), targets, FIELD, 100)[1]

    before = terms(batch)
    moved = {
        "param": "translation",
        "kp3d": "coords3d_true",
        "dense": "coords2d_true",
        "kp2d": "coords2d_true",
    }
    for kind, name in moved.items():
        changed = dict(batch)
        changed[kind] = batch[kind] | {
            name: batch[kind][name] + [0.05, 0.1, 0][: batch[kind][name].shape[-1]]
        }
        after = terms(changed)
        moved_terms = {n for n in before if not np.allclose(before[n], after[n], rtol=1e-5)}
        assert moved_terms and all(name.startswith(f"{kind}/") for name in moved_terms)


@pytest.mark.parametrize("kinds", [("param",), ("dense",), ("kp2d", "param"), ("kp3d", "dense")])
def test_any_subset_of_kinds_is_a_batch(rng, kinds):
    model = metrabs.build_model(FIELD)
    everything = make_batch(rng, 2, FIELD)
    everything |= {kind: make_point_batch(rng, 2, FIELD, kind) for kind in ("dense", "param")}
    batch = {kind: everything[kind] for kind in kinds}
    inputs, targets = metrabs.prepare(batch, FIELD, SEED)
    loss, means = metrabs.compute_loss(model(inputs, training=False), targets, FIELD, 0)
    assert np.isfinite(loss) and {name.partition("/")[0] for name in means} == set(kinds)


@pytest.mark.parametrize("kind", ["param", "dense"])
def test_factors_scale_their_kind(rng, kind):
    model = metrabs.build_model(FIELD)
    inputs, targets = metrabs.prepare({kind: make_point_batch(rng, 2, FIELD, kind)}, FIELD, SEED)
    outputs = model(inputs, training=False)
    name = f"loss_factor_{kind}"
    doubled = dataclasses.replace(FIELD, **{name: 2 * getattr(FIELD, name)})
    once, twice = (metrabs.compute_loss(outputs, targets, c, 0)[0] for c in (FIELD, doubled))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_masked_surface_points_move_neither_loss_nor_gradient(rng):
    model = metrabs.build_model(FIELD)
    part = make_point_batch(rng, 3, FIELD, "dense")
    invalid = ~part["point_validity"].numpy()[..., np.newaxis]
    assert invalid.any()

    def loss_and_gradient(value):
        changed = part | {"coords2d_true": tf.where(invalid, value, part["coords2d_true"])}
        with tf.GradientTape() as tape:
            inputs, targets = metrabs.prepare({"dense": changed}, FIELD, SEED)
            outputs = model(inputs, training=False)
            loss, _ = metrabs.compute_loss(outputs, targets, FIELD, 100)
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    expected = loss_and_gradient(0.0)
    assert np.abs(expected[1]).max() > 0
    for a, b in zip(loss_and_gradient(np.nan), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_ideal_points_decode_to_the_truth(rng):
    part = make_point_batch(rng, 3, FIELD, "param")
    inputs, targets = metrabs.prepare({"param": part}, FIELD, None)
    truth = targets["param"]
    decoded = metrabs.decode(metrabs.encode_targets(truth, FIELD), inputs, FIELD)
    is_smpl = truth["point_validity"].numpy()[0, :N_JOINTS]
    for key, atol in (("coords3d_abs", 0.02), ("coords2d", 0.1)):
        true = truth[key.replace("_abs", "") + "_true"].numpy()
        points = decoded[f"points_{key}"]
        np.testing.assert_allclose(points, true[:, N_JOINTS:], atol=atol)
        joints = decoded[key].numpy()[:, is_smpl]
        np.testing.assert_allclose(joints, true[:, :N_JOINTS][:, is_smpl], atol=atol)
    sums = metrabs.evaluate(decoded, targets, FIELD)
    for name, n_points in (("mpjpe_mm", 24), ("surface_mpjpe_mm", 7)):
        total, count = sums[name]
        assert float(count) == 3 * n_points and float(total) / float(count) < 20
    assert sums["mpjpe_per_joint_mm"][0].shape == (N_JOINTS,)
    assert len(metrabs.collect(decoded, targets, FIELD)["point_error_m"]) == 3 * 24


def test_bodies_and_joints_are_measured_together(rng):
    model = metrabs.build_model(FIXED)
    parts = {"param": make_point_batch(rng, 2, FIXED, "param"), **make_batch(rng, 3, FIXED)}

    def measured(*kinds):
        inputs, targets = metrabs.prepare({kind: parts[kind] for kind in kinds}, FIXED, None)
        decoded = metrabs.decode(model(inputs, training=False), inputs, FIXED)
        return metrabs.evaluate(decoded, targets, FIXED)

    together, alone = measured("param", "kp3d"), [measured("param"), measured("kp3d")]
    for name, (total, count) in together.items():
        np.testing.assert_allclose(count, sum(part[name][1] for part in alone))
        np.testing.assert_allclose(total, sum(part[name][0] for part in alone), rtol=1e-4)


def test_padding_of_surface_points_changes_nothing(rng):
    model = metrabs.build_model(FIELD)
    part = make_point_batch(rng, 3, FIELD, "dense")
    names = ("surface_ids", "surface_weights", "coords2d_true", "point_validity")
    padded = {
        name: tf.pad(part[name], [[0, 0], [0, 9], [0, 0]][: part[name].shape.rank])
        for name in names
    }
    losses = []
    for changes in ({}, padded):
        inputs, targets = metrabs.prepare({"dense": part | changes}, FIELD, SEED)
        loss, _ = metrabs.compute_loss(model(inputs, training=False), targets, FIELD, 100)
        losses.append(float(loss))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_asked_points_do_not_move_the_joints(rng):
    model = metrabs.build_model(FIELD)
    inputs, _ = metrabs.prepare({"param": make_point_batch(rng, 2, FIELD, "param")}, FIELD, None)
    with_points = metrabs.decode(model(inputs, training=False), inputs, FIELD)
    inputs["canonical_points"] = tf.zeros([2, 0, 3])
    alone = metrabs.decode(model(inputs, training=False), inputs, FIELD)
    np.testing.assert_allclose(with_points["coords3d_abs"], alone["coords3d_abs"], atol=1e-5)


def test_a_fixed_head_refuses_surface_points(rng):
    info = records.DatasetInfo(name="x", kind="dense", skeleton=FIXED.joints.to_dict())
    with pytest.raises(ValueError, match="head='field'"):
        check_source("dense", info, FIXED)
    with pytest.raises(ValueError, match="head='field'"):
        metrabs.prepare({"dense": make_point_batch(rng, 1, FIXED, "dense")}, FIXED, None)
    check_source("kp2d", info, FIXED)


def test_another_body_model_is_refused():
    info = records.DatasetInfo(
        name="agora3",
        kind="param",
        skeleton=FIXED.joints.to_dict(),
        body_model={"name": "smpl", "n_vertices": 6890},
    )
    with pytest.raises(ValueError, match="'agora3'.*6890.*body_model='procedural'"):
        check_source("param", info, FIELD)
    own = dataclasses.replace(info, body_model={"name": "x", "n_vertices": BODY.n_vertices})
    check_source("param", own, FIELD)


def test_a_body_model_of_other_joints_is_refused(monkeypatch):
    info = records.DatasetInfo(name="x", kind="param", skeleton=FIXED.joints.to_dict())
    more = dataclasses.replace(BODY, shapedirs=BODY.shapedirs[..., :4])
    monkeypatch.setattr(type(FIELD), "body", more)
    with pytest.raises(ValueError, match="24 joints and 4 shape directions.*SMPL's file"):
        check_source("param", info, dataclasses.replace(FIELD))


def test_bodies_without_a_joint_of_the_models_teach_a_fixed_head_nothing():
    info = records.DatasetInfo(name="x", kind="param", skeleton=FIXED.joints.to_dict())
    config = dataclasses.replace(FIXED, skeleton="coco_17+mads_19")
    with pytest.raises(ValueError, match="'coco_17.mads_19' has no joint.*add smpl_24"):
        check_source("param", info, config)
    check_source("param", info, dataclasses.replace(config, head="field"))
