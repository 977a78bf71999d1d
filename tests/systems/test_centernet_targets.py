"""Training targets: people made by hand, the rules one by one, a plain loop as an oracle."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.targets import NO_TRAINING, encode_targets
from scripts.benchmarks import centernet_targets as benchmark

CONFIG = Config(proc_side=64)  # maps of 16 x 16 cells; images of 64 x 64 px map 4 to 1
J = CONFIG.n_joints
CENTERS = ("hm", "reg_mask", "hps_mask")  # what turned images do not train
LEFT, RIGHT = CONFIG.joints.mirror_indices[2], 2  # two joints of a pair


def make_people(boxes, joints=(), *, n_slots=None, **changes):
    """One image of 64 x 64 px as it is; joints are {joint: (x, y)} for each person."""
    n_slots = n_slots or len(boxes)
    people = {
        "boxes": np.zeros((1, n_slots, 4)),
        "joints2d": np.zeros((1, n_slots, J, 2)),
        "joint_validity": np.zeros((1, n_slots, J), bool),
        "person_validity": np.arange(n_slots)[np.newaxis] < len(boxes),
        "image_size": np.array([[64, 64]]),
        "center": np.array([[32.0, 32.0]]),
        "scale": np.array([64.0]),
        "angle_degrees": np.array([0.0]),
        "is_mirrored": np.array([False]),
    }
    people["boxes"][0, : len(boxes)] = boxes
    for n, labelled in enumerate(joints):
        for j, point in labelled.items():
            people["joints2d"][0, n, j] = point
            people["joint_validity"][0, n, j] = True
    return people | {name: np.array(value) for name, value in changes.items()}


def encode(people, config=CONFIG, **options):
    encoded = encode_targets(people, config, jit_compile=False, **options)
    return {name: value.numpy() for name, value in encoded.items()}


def encode_one(*args, config=CONFIG, **changes):
    return {name: value[0] for name, value in encode(make_people(*args, **changes), config).items()}


def assert_equal(found, expected, names=None):
    for name in names or expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def random_people(rng, n_images=3, n_people=5):
    """People of all kinds, also outside of the image, in placements of all kinds."""
    size = rng.uniform(2, 60, (n_images, n_people, 2))
    corner = rng.uniform(-20, 70, (n_images, n_people, 2))
    joints = (
        corner[:, :, np.newaxis]
        + rng.uniform(-0.1, 1.1, (n_images, n_people, J, 2)) * size[:, :, np.newaxis]
    )
    return {
        "boxes": np.concatenate([corner, size], axis=-1).astype(np.float32),
        "joints2d": joints.astype(np.float32),
        "joint_validity": rng.uniform(size=joints.shape[:-1]) < 0.7,
        "person_validity": rng.uniform(size=corner.shape[:2]) < 0.8,
        "image_size": np.tile([[60, 80]], (n_images, 1)),
        "center": rng.uniform(20, 50, (n_images, 2)).astype(np.float32),
        "scale": rng.uniform(40, 90, n_images).astype(np.float32),
        "angle_degrees": np.where(np.arange(n_images) % 3 == 1, 20.0, 0.0).astype(np.float32),
        "is_mirrored": np.arange(n_images) % 2 == 1,
    }


def test_a_person_by_hand():
    found = encode_one([[8, 4, 20, 40]], [{0: (18, 10), 5: (12.5, 21)}], n_slots=2)
    np.testing.assert_array_equal(found["wh"], [[5, 10], [0, 0]])  # 4 px a cell
    np.testing.assert_array_equal(found["ind"], [6 * 16 + 4, 0])  # centre (4.5, 6)
    np.testing.assert_array_equal(found["reg"], [[0.5, 0], [0, 0]])
    np.testing.assert_array_equal(found["reg_mask"], [1, 0])
    hps = np.zeros((2, 2 * J))
    hps[0, :2], hps[0, 10:12] = (0.5, -3.5), (-0.875, -0.75)  # from the cell (4, 6)
    np.testing.assert_array_equal(found["hps"], hps)
    np.testing.assert_array_equal(found["hps_mask"], hps != 0)
    np.testing.assert_array_equal(np.flatnonzero(found["hp_mask"]), [0, 5])
    np.testing.assert_array_equal(found["hp_offset"][[0, 5]], [[0.5, 0.5], [0.125, 0.25]])
    np.testing.assert_array_equal(found["hp_ind"][[0, 5]], [2 * 16 + 4, 5 * 16 + 3])
    np.testing.assert_array_equal(np.argwhere(found["hm"] == 1), [[6, 4, 0]])
    np.testing.assert_array_equal(np.argwhere(found["hm_hp"] == 1), [[2, 4, 0], [5, 3, 5]])
    # A box of 10 x 5 cells: radius 1 also for the joints.
    assert np.sum(found["hm"] > 0) == 9 and np.sum(found["hm_hp"] > 0) == 18
    np.testing.assert_array_equal(found["gt_det"][0, :7], [2, 1, 7, 11, 1, 4.5, 2.5])
    np.testing.assert_array_equal(found["gt_det_mask"], [1, 0])
    for name, value in found.items():
        assert value.dtype == (np.int32 if name in ("ind", "hp_ind") else np.float32), name


def test_boxes_are_clipped_before_they_are_measured():
    found = encode_one([[-40, 8, 60, 100]], [{0: (10, 20)}])
    np.testing.assert_array_equal(found["wh"], [[5, 13]])  # 0..5 and 2..15 cells
    np.testing.assert_array_equal(found["ind"], [8 * 16 + 2])
    np.testing.assert_array_equal(found["reg"], [[0.5, 0.5]])


def test_people_outside_leave_their_slot_empty_and_others_theirs():
    boxes = [[-50, 8, 20, 40], [8, 4, 20, 40], [4, 80, 20, 40]]
    joints = [{0: (10, 20)}, {0: (18, 10)}, {0: (10, 20)}]
    found = encode_one(boxes, joints)
    alone = encode_one(boxes[1:2], joints[1:2])
    for name in ("wh", "ind", "reg", "reg_mask", "hps", "hps_mask"):
        np.testing.assert_array_equal(found[name][1], alone[name][0], err_msg=name)
        assert not found[name][[0, 2]].any(), name
    np.testing.assert_array_equal(np.flatnonzero(found["hp_mask"]), [J])
    assert_equal(found, alone, ("hm", "hm_hp"))


def test_people_without_joints_are_drawn_but_their_box_is_not_trained():
    with_joint, without = (encode_one([[8, 4, 20, 40]], [j]) for j in ({0: (18, 10)}, {}))
    assert_equal(without, with_joint, ("hm", "wh", "reg", "ind"))
    np.testing.assert_array_equal(with_joint["reg_mask"], [1])
    np.testing.assert_array_equal(without["reg_mask"], [0])


def test_a_joint_outside_the_map_counts_as_labelled_but_is_not_trained():
    found = encode_one([[8, 4, 20, 40]], [{0: (63.99, 0), 1: (64, 10), 2: (10, -0.01), 3: (4, 64)}])
    np.testing.assert_array_equal(np.flatnonzero(found["hp_mask"]), [0])
    np.testing.assert_array_equal(found["hp_ind"][0], 15)
    np.testing.assert_array_equal(np.flatnonzero(found["hps_mask"]), [0, 1])
    assert not found["hps"][0, 2:].any() and not found["hm_hp"][..., 1:].any()
    outside = encode_one([[8, 4, 20, 40]], [{1: (64, 10)}])
    assert outside["reg_mask"][0] == 1 and not outside["hps_mask"].any()


def test_turned_images_train_joint_maps_only():
    boxes = [[8, 4, 20, 40], [-50, 8, 20, 40]]
    joints = [{0: (40, 32)}, {0: (10, 20)}]
    upright = encode_one(boxes, joints)
    turned = encode_one(boxes, joints, angle_degrees=[90.0])
    np.testing.assert_array_equal(turned["hm"], np.full((16, 16, 1), np.float32(NO_TRAINING)))
    assert not turned["reg_mask"].any() and not turned["hps_mask"].any()
    for name in ("wh", "ind", "reg"):  # boxes are not turned
        np.testing.assert_array_equal(turned[name][0], upright[name][0], err_msg=name)
    # Right of the middle by 2 cells; turned, above it. The cell is decided in float32.
    np.testing.assert_allclose(turned["gt_det"][0, 5:7], [8, 6], atol=1e-5)
    # The box outside is flat, but here it does not leave its slot empty.
    np.testing.assert_array_equal(turned["gt_det_mask"], [1, 1])
    assert upright["gt_det_mask"][1] == 0 and turned["hp_mask"][J] == 1
    np.testing.assert_array_equal(turned["wh"][1], [0, 10])


def test_mirroring_equals_mirrored_people(rng):
    people = random_people(rng) | {"is_mirrored": np.ones(3, bool)}
    order = list(CONFIG.joints.mirror_indices)
    boxes, joints = people["boxes"], people["joints2d"]
    mirrored_boxes = boxes.copy()
    mirrored_boxes[..., 0] = 80 - (boxes[..., 0] + boxes[..., 2]) - 1
    mirrored_joints = joints[:, :, order] * np.float32([-1, 1]) + np.float32([79, 0])
    by_hand = people | {
        "is_mirrored": np.zeros(3, bool),
        "boxes": mirrored_boxes,
        "joints2d": mirrored_joints,
        "joint_validity": people["joint_validity"][:, :, order],
    }
    found, expected = encode(people), encode(by_hand)
    assert found["hp_mask"].any()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)


def test_convention_mirrored_left_is_right():
    found = encode_one([[8, 4, 20, 40]], [{LEFT: (20, 12)}], is_mirrored=[True])
    np.testing.assert_array_equal(np.flatnonzero(found["hp_mask"]), [RIGHT])
    np.testing.assert_array_equal(found["hp_ind"][RIGHT], 3 * 16 + 10)  # x = 64 - 20 - 1


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("reg_offset", {"reg"}),
        ("hm_hp", {"hm_hp"}),
        ("reg_hp_offset", {"hp_offset", "hp_ind", "hp_mask"}),
    ],
)
def test_switches_leave_targets_out(rng, switch, gone):
    people = random_people(rng)
    complete = encode(people)
    reduced = encode(people, dataclasses.replace(CONFIG, **{switch: False}))
    assert set(complete) - set(reduced) == gone
    for name, value in reduced.items():
        np.testing.assert_allclose(value, complete[name], atol=2e-7, err_msg=name)


def test_dense_joints_point_from_every_cell_near_the_centre():
    arguments = [[8, 4, 20, 40]], [{0: (18, 10), 5: (12.5, 21), 6: (99, 0)}]
    config = dataclasses.replace(CONFIG, dense_hp=True)
    sparse, dense = encode_one(*arguments), encode_one(*arguments, config=config)
    assert not {"hps", "hps_mask"} & set(dense)
    np.testing.assert_array_equal(dense["dense_hps"][6, 4], sparse["hps"][0])
    np.testing.assert_array_equal(dense["dense_hps"][5, 5, :2], sparse["hps"][0, :2] - [1, -1])
    mask = dense["dense_hps_mask"]
    assert mask.shape == dense["dense_hps"].shape == (16, 16, 2 * J)
    for channel in range(2 * J):
        expected = sparse["hm"][..., 0] if channel // 2 in (0, 5) else np.zeros((16, 16))
        np.testing.assert_array_equal(mask[..., channel], expected, err_msg=f"{channel}")


@pytest.mark.parametrize("dense_hp", [False, True])
def test_gaussians_of_the_squared_loss_have_a_fixed_width(dense_hp):
    config = dataclasses.replace(CONFIG, mse_loss=True, hm_gauss=1, dense_hp=dense_hp)
    found = encode_one([[8, 4, 20, 40], [40, 40, 8, 8]], [{0: (18, 10)}, {}], config=config)
    for y, x in ((6, 4), (11, 11)):
        np.testing.assert_allclose(found["hm"][y, x + 1, 0], np.exp(-0.5), rtol=1e-6)
        assert found["hm"][y, x + 3, 0] > 0 and found["hm"][y, x, 0] == 1
    np.testing.assert_allclose(found["hm_hp"][2, 5, 0], np.exp(-0.5), rtol=1e-6)
    if dense_hp:  # written within one sigma, weighted up to three
        assert found["dense_hps"][6, 5, 0] != 0 and found["dense_hps"][6, 6, 0] == 0
        np.testing.assert_allclose(found["dense_hps_mask"][6, 6, 0], np.exp(-2), rtol=1e-5)


def with_slot(people, **values):
    """Adds one more person to each image."""
    changed = dict(people)
    for name in ("boxes", "joints2d", "joint_validity", "person_validity"):
        extra = np.full_like(people[name][:, :1], values[name])
        changed[name] = np.concatenate([people[name], extra], axis=1)
    return changed


@pytest.mark.parametrize(
    "values",
    [
        {"boxes": np.nan, "joints2d": np.nan, "joint_validity": True, "person_validity": False},
        {"boxes": np.nan, "joints2d": 30.0, "joint_validity": True, "person_validity": True},
        {"boxes": np.inf, "joints2d": 30.0, "joint_validity": True, "person_validity": True},
        {"boxes": -5.0, "joints2d": 30.0, "joint_validity": True, "person_validity": True},
    ],
    ids=["invalid", "nan_box", "infinite_box", "negative_size"],
)
@pytest.mark.parametrize("dense_hp", [False, True])
def test_people_who_do_not_count_change_nothing(rng, values, dense_hp):
    config = dataclasses.replace(CONFIG, dense_hp=dense_hp)
    people = random_people(rng)
    expected, found = encode(people, config), encode(with_slot(people, **values), config)
    for name, value in expected.items():
        assert np.isfinite(found[name]).all(), name
        n = value.shape[1]
        if found[name].shape != value.shape:
            assert not found[name][:, n:].any(), name
        np.testing.assert_array_equal(found[name][:, :n], value, err_msg=name)


def test_nan_joints_count_as_unlabelled(rng):
    people = random_people(rng)
    people["joints2d"][~people["joint_validity"]] = 0.0
    expected = encode(people)
    people["joints2d"][~people["joint_validity"]] = np.nan
    people["joint_validity"][:] = True
    assert_equal(encode(people), expected)


@pytest.mark.parametrize(("n_images", "n_people"), [(0, 3), (2, 0)])
@pytest.mark.parametrize("dense_hp", [False, True])
def test_no_images_and_no_people(rng, n_images, n_people, dense_hp):
    config = dataclasses.replace(CONFIG, dense_hp=dense_hp)
    people = random_people(rng, n_images, n_people) | {"angle_degrees": np.zeros(n_images)}
    found = encode(people, config)
    assert found["hm"].shape == (n_images, 16, 16, 1)
    assert found["hp_ind"].shape == (n_images, n_people * J)
    assert not any(np.any(value) for value in found.values())


def on_map(points, people, map_size):
    """Maps points `[B, ..., 2]` of upright images, as documented: the width sets the scale."""
    shape = [-1, *[1] * (points.ndim - 1)]
    image_width = people["image_size"][:, 1].reshape(shape)
    is_mirrored = people["is_mirrored"].reshape(shape)
    x, y = points[..., :1], points[..., 1:]
    points = np.concatenate([np.where(is_mirrored, image_width - x - 1, x), y], axis=-1)
    center = people["center"].reshape([*shape[:-1], 2])
    cells_per_px = map_size[1] / people["scale"].reshape(shape)
    return (points - center) * cells_per_px + np.array(map_size[::-1]) / 2


def assert_in_cells(index, points, width):
    """Asserts that the points `(x, y)` lie in the cells of these numbers, but for rounding."""
    cells = np.stack([index % width, index // width], axis=-1)
    np.testing.assert_allclose(points - cells, 0.5, rtol=0, atol=0.5 + 1e-4)


@pytest.mark.parametrize("map_size", [(16, 24), (24, 16), (8, 20), (16, 16)], ids=str)
def test_cells_of_oblong_maps(rng, map_size):
    people = random_people(rng) | {"angle_degrees": np.zeros(3, np.float32)}
    height, width = map_size
    found = encode(people, map_size=map_size)
    assert found["hm"].shape == (3, *map_size, 1) and found["hm_hp"].shape == (3, *map_size, J)
    boxes = people["boxes"]
    ends = [on_map(x, people, map_size) for x in (boxes[..., :2], boxes[..., :2] + boxes[..., 2:])]
    ends = [np.clip(end, 0, [width - 1, height - 1]) for end in ends]
    centers, sizes = (ends[0] + ends[1]) / 2, np.abs(ends[1] - ends[0])
    is_drawn = found["gt_det_mask"] > 0
    assert is_drawn.sum() > 3
    assert_in_cells(found["ind"][is_drawn], centers[is_drawn], width)
    np.testing.assert_allclose(found["wh"][is_drawn], sizes[is_drawn], atol=1e-4)
    order = np.array(CONFIG.joints.mirror_indices)
    joints = on_map(people["joints2d"], people, map_size)
    joints = np.where(people["is_mirrored"][:, None, None, None], joints[:, :, order], joints)
    is_shown = found["hp_mask"].reshape(3, 5, J) > 0
    assert is_shown.sum() > 15
    cells = found["hp_ind"].reshape(3, 5, J)
    assert_in_cells(cells[is_shown], joints[is_shown], width)
    assert (found["hm"].reshape(3, -1)[np.nonzero(is_drawn)[0], found["ind"][is_drawn]] == 1).all()


def test_a_higher_map_moves_the_middle_alone(rng):
    people = random_people(rng)
    square, high, wide = (encode(people, map_size=size) for size in ((16, 16), (24, 16), (16, 24)))
    is_inside = square["hps_mask"].reshape(3, 5, J, 2)[..., 0] > 0
    shown = [x["hp_ind"].reshape(3, 5, J)[is_inside] for x in (square, high)]
    assert len(shown[0]) > 20
    np.testing.assert_array_equal(shown[1], shown[0] + 4 * 16)  # 4 cells further down
    assert wide["wh"].max() > 1.2 * square["wh"].max()  # half as large again by its width


def test_agrees_with_a_plain_loop():
    people = benchmark.make_people(2, seed=1)
    plain = {name: value.numpy() for name, value in people.items()}
    assert plain["is_mirrored"].any() or plain["scale"].std() > 0
    found = encode(people, benchmark.CONFIG)
    for name, expected in benchmark.encode_plainly(plain).items():
        assert expected.any(), name
        np.testing.assert_allclose(found[name], expected, atol=1e-4, err_msg=name)


def spec_of(value):
    value = tf.convert_to_tensor(value)
    unknown = 2 if value.shape.rank > 1 and value.shape[1] == 5 else 1
    return tf.TensorSpec([None] * unknown + value.shape.as_list()[unknown:], value.dtype)


@pytest.mark.parametrize(("dense_hp", "batch_sizes"), [(False, (3, 1)), (True, (3,))])
def test_one_trace_for_all_batches_and_the_same_when_compiled(rng, dense_hp, batch_sizes):
    config = dataclasses.replace(CONFIG, dense_hp=dense_hp, proc_side=32)
    batches = [random_people(rng, n) for n in batch_sizes]
    signature = {name: spec_of(value) for name, value in batches[0].items()}

    @tf.function(input_signature=[signature], autograph=False)
    def encode_compiled(people):
        return encode_targets(people, config)

    for people in batches:
        found, expected = encode_compiled(people), encode(people, config)
        assert set(found) == set(expected)
        for name, value in expected.items():
            atol = 2e-7 if name in ("hm", "hm_hp", "dense_hps_mask") else 0
            np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)
    assert encode_compiled.experimental_get_tracing_count() == 1


def test_missing_fields_and_other_skeletons_are_refused(rng):
    people = random_people(rng)
    with pytest.raises(ValueError, match="people lacks boxes, scale"):
        encode_targets({k: v for k, v in people.items() if k not in ("boxes", "scale")}, CONFIG)
    with pytest.raises(ValueError, match="`joints2d` has shape"):
        encode_targets(people | {"joints2d": people["joints2d"][:, :, :5]}, CONFIG)
    with pytest.raises(ValueError, match="`person_validity` has shape"):
        encode_targets(people | {"person_validity": people["person_validity"][:, :2]}, CONFIG)
