import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.data import masks, preparation, records, whole_images
from metrabs_like.geometry import warping
from tests.data import toy

SIDE = 96
CONFIG = whole_images.WholeImageConfig(
    proc_side=SIDE, n_parallel_calls=2, shuffle_buffer=8, max_objects=3
)
UNION = skeletons.union(toy.TOY, skeletons.COCO_17)


def train(sources, *, config=CONFIG, seed=3, skeleton=toy.TOY):
    return whole_images.make_train_dataset(sources, config, skeleton=skeleton, seed=seed)


def evaluate(folder, kind="kp3d", *, config=CONFIG, skeleton=toy.TOY, batch_size=4, scale=1.0):
    batches = whole_images.make_eval_dataset(
        folder, kind, config, skeleton=skeleton, batch_size=batch_size, scale=scale
    )
    return [batch["kp2d"] for batch in batches]


def first(sources, **kwargs):
    return next(iter(train(sources, **kwargs)))["kp2d"]


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


def inputs_of(sub, size=(SIDE, SIDE)):
    return warping.warp_affine(
        sub["window"], sub["window_from_input"], size, jit_compile=False
    ).numpy()


def joints_in_input(sub):
    points = sub["joints2d"].numpy()
    points = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    return np.einsum("bij,bnpj->bnpi", sub["input_from_image"].numpy(), points)[..., :2]


def write(folder, record_lists, kind="kp3d"):
    """Writes a data set of given records, a list per shard."""
    tasks = [lambda index, shard=shard: iter(shard) for shard in record_lists]
    info = toy.make_info(kind)
    preparation.write_dataset(tasks, str(folder), info, n_processes=1, progress=False)
    return str(folder)


def special_records():
    """Two people, one of them without joints and one with an area; only a crowd; a long image."""
    rng = np.random.default_rng(0)
    first = toy.make_record(rng, "a", width=64, n_people=2)
    first.people[0].validity2d = np.zeros(5, bool)
    first.people[1].area = 12.5
    first.people[1].points2d = np.array([[-0.9, 3], [-1.1, 3], [64, 48], [5, 48.1], [7, 7]])
    second = toy.make_record(rng, "b", width=96, n_people=0)
    second.crowd_boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8.0]])
    return [first, second, toy.make_record(rng, "c", width=64, n_people=3)]


@pytest.mark.parametrize(
    ("width", "extension", "scaled"), [(200, ".png", False), (640, ".jpg", True)]
)
def test_input_and_people_agree(tmp_path, width, extension, scaled):
    folder = toy.write_toy(
        tmp_path, n_shards=1, n_images=8, n_people=(1,), width=width, extension=extension
    )
    config = changed(rotate_probability=0.5, rotate_degrees=20.0, window_side=300)
    sub = first([f"kp3d:{folder}:16"], config=config)
    assert 0 < sub["is_mirrored"].numpy().sum() < 16
    assert 0 < np.count_nonzero(sub["angle_degrees"]) < 16
    shrunk = sub["window_from_input"][:, 0, 0] / tf.linalg.inv(sub["input_from_image"])[:, 0, 0]
    assert np.any(shrunk < 0.6) == scaled
    errors = []
    radius = width / 100 * 2.5
    y, x = np.mgrid[:SIDE, :SIDE]
    for image, points, matrix in zip(
        inputs_of(sub), joints_in_input(sub)[:, 0], sub["input_from_image"].numpy(), strict=True
    ):
        reach = radius * np.sqrt(abs(np.linalg.det(matrix)))
        for point in points:
            if np.any(point < reach + 1) or np.any(point > SIDE - 2 - reach):
                continue
            near = (x - point[0]) ** 2 + (y - point[1]) ** 2 < reach**2
            weight = near * np.maximum(image[..., 0] - 0.25, 0)
            center = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            errors.append(np.linalg.norm(center - point))
    assert len(errors) > 20
    assert np.max(errors) < 0.4 and np.median(errors) < 0.1


def test_windows_give_what_the_whole_images_do(tmp_path):
    """Bilinear samples of the window are those of the image, mirrored and turned ones too."""
    made = [toy.make_record(np.random.default_rng(i), str(i), width=120) for i in range(4)]
    folder = write(tmp_path, [made])
    config = changed(rotate_probability=0.5, rotate_degrees=30.0, window_side=120)
    sub = first([f"kp3d:{folder}:12"], config=config)
    images = np.array([tf.io.decode_png(record.image_bytes).numpy() for record in made])
    inverse = np.linalg.inv(sub["input_from_image"].numpy().astype(np.float64))
    for image, matrix, boxes in zip(
        inputs_of(sub), inverse, sub["boxes"].numpy()[:, 0], strict=True
    ):
        which = next(i for i in range(4) if np.allclose(made[i].people[0].box, boxes, atol=1e-3))
        expected = warping.warp_affine(
            images[which][np.newaxis], matrix[np.newaxis], (SIDE, SIDE), jit_compile=False
        )
        np.testing.assert_allclose(image, expected[0], atol=2e-3)


def test_batch_has_the_promised_form(toy_dir):
    sources = [f"kp3d:{toy_dir}:3", f"kp2d:{toy_dir}:2"]
    dataset = train(sources, skeleton=UNION, config=changed(with_masks=True, mask_side=16))
    (batch,) = dataset.take(1)
    assert list(batch) == ["kp2d"]
    shapes = {name: (tuple(t.shape), t.dtype.name) for name, t in batch["kp2d"].items()}
    assert shapes == {
        "window": ((5, 144, 144, 3), "uint8"),
        "window_from_input": ((5, 3, 3), "float32"),
        "input_from_image": ((5, 3, 3), "float32"),
        "image_size": ((5, 2), "int32"),
        "center": ((5, 2), "float32"),
        "scale": ((5,), "float32"),
        "angle_degrees": ((5,), "float32"),
        "is_mirrored": ((5,), "bool"),
        "boxes": ((5, 3, 4), "float32"),
        "joints2d": ((5, 3, 22, 2), "float32"),
        "joint_validity": ((5, 3, 22), "bool"),
        "person_validity": ((5, 3), "bool"),
        "example_seed": ((5, 2), "int32"),
        "masks": ((5, 3, 16, 16), "uint8"),
        "mask_boxes": ((5, 3, 4), "float32"),
        "mask_validity": ((5, 3), "bool"),
    }
    sub = batch["kp2d"]
    assert not np.any(sub["joint_validity"][:, :, 5:]) and not np.any(sub["joints2d"][:, :, 5:])
    assert not np.any(sub["mask_validity"]) and not np.any(sub["masks"])
    assert dataset.element_spec["kp2d"]["window"].shape == (5, 144, 144, 3)


def test_people_are_those_of_the_records(toy_dir):
    """Everybody of an image up to the limit, in stored order, in its own pixels."""
    sub = first([f"kp3d:{toy_dir}:18"], config=changed(max_objects=1, shuffle_buffer=1))
    stored = [r for s in range(3) for r in toy.make_shard(s)]
    with_people = [r for r in stored if r.people]
    n_people = sub["person_validity"].numpy().sum(axis=1)
    assert sorted(n_people) == [0] * 6 + [1] * 12
    for i in np.flatnonzero(n_people):
        distances = [np.abs(r.people[0].box - sub["boxes"][i, 0]).max() for r in with_people]
        record = with_people[np.argmin(distances)]
        assert min(distances) < 1e-4
        validity = sub["joint_validity"][i, 0].numpy()
        expected = record.people[0].points2d[validity]
        np.testing.assert_allclose(sub["joints2d"][i, 0][validity], expected, atol=1e-3)
    assert not np.any(sub["boxes"][n_people == 0])


def assert_same(a, b):
    tf.nest.map_structure(lambda x, y: np.testing.assert_array_equal(x, y), a, b)


def test_content_is_a_function_of_the_seed(toy_dir):
    sources = [f"kp3d:{toy_dir}:3", f"kp2d:{toy_dir}:2"]
    expected = list(train(sources).take(4))
    assert_same(expected, list(train(sources, config=changed(n_parallel_calls=16)).take(4)))
    assert np.any(first(sources, seed=4)["center"] != expected[0]["kp2d"]["center"])
    assert_same(expected[0]["kp2d"], first(sources, seed=tf.constant(3, tf.int64)))
    # Another batch size changes neither the order of the examples nor their placement.
    larger = first([f"kp3d:{toy_dir}:12"])
    for name in ("center", "scale", "is_mirrored", "boxes", "example_seed"):
        smaller = np.concatenate([batch["kp2d"][name][:3] for batch in expected])[:12]
        np.testing.assert_allclose(larger[name], smaller, rtol=1e-6, err_msg=name)


def test_restored_iterator_goes_on_bit_identically(toy_dir, tmp_path):
    sources = [f"kp3d:{toy_dir}:3", f"kp2d:{toy_dir}:2"]
    iterator = iter(train(sources))
    for _ in range(7):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    expected = [next(iterator) for _ in range(6)]
    restored = iter(train(sources))
    next(restored)
    tf.train.Checkpoint(iterator=restored).restore(path).assert_consumed()
    assert_same([next(restored) for _ in range(6)], expected)


def test_no_operation_calls_python(toy_dir):
    dataset = train([f"kp3d:{toy_dir}:3"], config=changed(with_masks=True))
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    names = {node.op for node in nodes}
    assert any(name.startswith("ParallelMap") for name in names) and "DecodePng" in names
    assert not {name for name in names if "PyFunc" in name or "Generator" in name}


def test_eval_is_complete_and_ordered(toy_dir):
    batches = evaluate(toy_dir)
    assert [len(sub["image_id"]) for sub in batches] == [4, 4, 4, 4, 2]
    ids = np.concatenate([sub["image_id"] for sub in batches]).astype(str)
    assert list(ids) == [f"{s}-{i}" for s in range(3) for i in range(6)]
    n_people = np.concatenate([sub["person_validity"].numpy().sum(axis=1) for sub in batches])
    np.testing.assert_array_equal(n_people, [1, 2, 0] * 6)
    assert {sub["boxes"].shape[1] for sub in batches} == {2}
    for sub in batches:
        assert not np.any(sub["is_mirrored"]) and not np.any(sub["angle_degrees"])
        # 320 x 240 px on 96 x 96, in the middle.
        expected = [[0.3, 0, 0], [0, 0.3, 12], [0, 0, 1]]
        np.testing.assert_allclose(sub["input_from_image"], [expected] * len(sub["scale"]))


def test_eval_keeps_people_without_joints_and_knows_areas_and_crowds(tmp_path):
    (sub,) = evaluate(write(tmp_path, [special_records()]), batch_size=3)
    np.testing.assert_array_equal(sub["person_validity"], [[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(sub["joint_validity"][0, 0], np.zeros(5))
    # Joints up to a pixel outside the image (64 x 48 px) count.
    np.testing.assert_array_equal(sub["joint_validity"][0, 1], [True, False, True, False, True])
    np.testing.assert_array_equal(sub["joints2d"][0, 1, 3], [0, 0])
    np.testing.assert_array_equal(sub["areas"], [[0, 12.5, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(sub["crowd_validity"], [[0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(sub["crowd_boxes"][1], [[1, 2, 3, 4], [5, 6, 7, 8]])


def test_kept_resolution_shows_the_very_pixels(tmp_path):
    """Images of 64 x 48 and 96 x 72 px: inputs of the next multiple of 32 above."""
    made = special_records()
    folder = write(tmp_path, [made])
    config = changed(keep_resolution=True, window_side=16)  # the window's side has no influence
    batches = evaluate(folder, config=config, batch_size=2)
    assert [sub["image_id"].numpy().tolist() for sub in batches] == [[b"a", b"c"], [b"b"]]
    assert [sub["window"].shape[1:3] for sub in batches] == [(64, 96), (96, 128)]
    for sub, size in zip(batches, [(64, 96), (96, 128)], strict=True):
        np.testing.assert_array_equal(sub["input_size"], [size] * len(sub["image_id"]))
        inputs = inputs_of(sub, size)
        for name, image, matrix in zip(
            sub["image_id"].numpy(), inputs, sub["input_from_image"].numpy(), strict=True
        ):
            record = next(r for r in made if r.image_id.encode() == name)
            pixels = tf.io.decode_png(record.image_bytes).numpy() / 255
            x, y = np.int64(matrix[:2, 2])
            np.testing.assert_allclose(matrix, [[1, 0, x], [0, 1, y], [0, 0, 1]], atol=1e-6)
            inside = image[y : y + record.height, x : x + record.width]
            np.testing.assert_allclose(inside, pixels, atol=1e-5)
            assert np.isclose(image.sum(), inside.sum(), rtol=1e-5)
    one_by_one = evaluate(folder, config=config, batch_size=1)
    assert [sub["image_id"].numpy()[0] for sub in one_by_one] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("scale", [0.5, 0.75, 2.0])
@pytest.mark.parametrize("keeps", [True, False])
def test_inputs_of_other_sizes_show_the_same_whole_image(tmp_path, keeps, scale):
    folder = write(tmp_path, [special_records()])
    config = changed(keep_resolution=keeps)
    once = evaluate(folder, config=config, batch_size=1)
    resized = evaluate(folder, config=config, batch_size=1, scale=scale)
    assert ("input_size" in once[0]) == keeps  # not of the size of training
    for sub, other in zip(once, resized, strict=True):
        assert sub["image_id"] == other["image_id"]
        sizes = np.floor(scale * other["image_size"][0].numpy())
        size = other["input_size"][0].numpy()
        expected = sizes // 32 * 32 + 32 if keeps else [max(1, round(scale * 3)) * 32] * 2
        np.testing.assert_array_equal(size, expected)
        # The middle of the image stays in the middle of the input.
        matrix = other["input_from_image"][0].numpy()
        factor = scale if keeps else size[0] / SIDE
        before = sub["input_from_image"][0].numpy()
        np.testing.assert_allclose(matrix[:2, :2], factor * before[:2, :2], atol=1e-5)
        middle = matrix @ [*(other["image_size"][0].numpy()[::-1] / 2), 1]
        np.testing.assert_allclose(middle[:2], size[::-1] / 2, atol=1)
        # The image is there to its last corner.
        height, width = other["image_size"][0].numpy()
        (image,) = inputs_of(other, tuple(size))
        for corner in ([2, 2], [width - 3, 2], [2, height - 3], [width - 3, height - 3]):
            x, y, _ = np.rint(matrix @ [*corner, 1]).astype(int)
            assert image[y, x].max() > 0


def test_a_scale_that_is_none_is_refused(toy_dir):
    with pytest.raises(ValueError, match="scale=0: inputs can be resized only"):
        evaluate(toy_dir, scale=0)


def test_masks_cover_their_people(tmp_path):
    record = toy.make_record(np.random.default_rng(0), "a", width=64, n_people=2)
    whole = np.zeros((48, 64), np.uint8)
    whole[10:40, 20:30] = 255
    whole[10:20, 20:44] = 255
    record.people[1].mask, record.people[1].mask_box = masks.encode_mask(whole)
    folder = write(tmp_path, [[record]])
    config = changed(with_masks=True, mask_side=24, flip_probability=1.0)
    (sub,) = evaluate(folder, config=config)
    np.testing.assert_array_equal(sub["mask_validity"], [[False, True]])
    np.testing.assert_array_equal(sub["mask_boxes"][0, 1], [19.5, 9.5, 24, 30])
    assert not np.any(sub["masks"][0, 0])
    # 24 x 30 px on 24 x 24: columns keep their place.
    np.testing.assert_array_equal(sub["masks"][0, 1, :8], np.full((8, 24), 255))
    np.testing.assert_array_equal(sub["masks"][0, 1, 9:, :10], np.full((15, 10), 255))
    np.testing.assert_array_equal(sub["masks"][0, 1, 9:, 10:], np.zeros((15, 14)))
    trained = first([f"kp3d:{folder}:1"], config=config)
    np.testing.assert_array_equal(trained["masks"][0, 1], sub["masks"][0, 1])


def test_sets_without_people_are_ordinary(tmp_path):
    folder = toy.write_toy(tmp_path, n_shards=1, n_images=2, n_people=(0,))
    (sub,) = evaluate(folder)
    assert sub["boxes"].shape == (2, 1, 4) and not np.any(sub["person_validity"])
    assert not np.any(first([f"kp2d:{folder}:2"])["person_validity"])


@pytest.mark.parametrize("size", [(1, 1), (4, 300), (300, 4)])
def test_images_of_any_size_come_out(tmp_path, size):
    record = toy.make_record(np.random.default_rng(0), "a", width=64)
    record.height, record.width = size
    record.image_bytes = tf.io.encode_png(np.full((*size, 3), 255, np.uint8)).numpy()
    folder = write(tmp_path, [[record]])
    (sub,) = evaluate(folder, config=changed(window_side=64))
    # The released placement has the image half a pixel up and left: half a pixel a side is lost.
    share = 0.5**2 if size == (1, 1) else 1.0
    expected = share * np.prod(size) * (SIDE / max(size)) ** 2
    np.testing.assert_allclose(inputs_of(sub)[0, ..., 0].sum(), expected, rtol=0.03)
    trained = first([f"kp3d:{folder}:4"])
    assert np.all(np.isfinite(trained["window_from_input"]))


def test_sources_that_fit_not_are_refused(toy_dir, tmp_path):
    with pytest.raises(ValueError, match="kind = 'dense' of source.*one of kp2d, kp3d"):
        train([f"dense:{toy_dir}:2"])
    with pytest.raises(ValueError, match="no changes of their own.*'blur': 0.5"):
        train([f"kp3d:{toy_dir}:2:blur=0.5"])
    with pytest.raises(ValueError, match="sources is empty"):
        train([])
    with pytest.raises(ValueError, match="no joint of the model's skeleton 'coco_17'"):
        evaluate(toy_dir, skeleton=skeletons.COCO_17)
    empty = write(tmp_path / "empty", [[]])
    with pytest.raises(ValueError, match="empty has no image"):
        train([f"kp3d:{empty}:2"])
    blind = toy.make_record(np.random.default_rng(0), "a")
    blind.people[0].validity2d = np.zeros(5, bool)
    blind = write(tmp_path / "blind", [[blind]])
    with pytest.raises(ValueError, match="blind: none of its people has a 2D joint"):
        train([f"kp3d:{blind}:2"])


def test_damaged_shards_are_named_or_left_out(tmp_path):
    folder = toy.write_toy(tmp_path, n_shards=2)
    path = records.DatasetInfo.load(folder).shard_paths(folder)[1]
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"x" * 50)
    with pytest.raises(ValueError, match="shard-00001-of-00002.tfrecord differs from its SHA-256"):
        evaluate(folder)
    with pytest.warns(UserWarning, match="1 of 2 shards are skipped"):
        dataset = train([f"kp3d:{folder}:6"], config=changed(skip_corrupt=True))
    (batch,) = dataset.take(1)
    boxes = batch["kp2d"]["boxes"][batch["kp2d"]["person_validity"]]
    whole = np.array([p.box for r in toy.make_shard(0) for p in r.people])
    assert len(boxes) and np.abs(boxes[:, None] - whole).max(axis=2).min(axis=1).max() < 1e-3


@pytest.mark.parametrize(
    "changes",
    [{"proc_side": 0}, {"max_objects": 0}, {"flip_probability": 1.5}, {"shift": -1.0}],
)
def test_wrong_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        whole_images.WholeImageConfig(**changes)


def test_settings_of_the_placement_reach_it():
    config = whole_images.WholeImageConfig(random_crop=False, shift=0.25, rotate_degrees=3.0)
    assert config.placement.shift == 0.25 and not config.placement.random_crop
    assert config.placement.rotate_degrees == 3.0
    assert whole_images.WholeImageConfig(proc_side=100).window_side == 150
