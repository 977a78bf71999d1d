import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.data import pipeline, records
from metrabs_like.geometry import warping
from tests.data import toy

UNION = skeletons.union(toy.TOY, skeletons.COCO_17)
CONFIG = pipeline.PipelineConfig(proc_side=96, n_parallel_calls=2, shuffle_buffer=8)


def train(sources, *, config=CONFIG, seed=3, skeleton=toy.TOY):
    return pipeline.make_train_dataset(sources, config, skeleton=skeleton, seed=seed)


def evaluate(folder, kind="kp3d", *, config=CONFIG, skeleton=toy.TOY, batch_size=4):
    return pipeline.make_eval_dataset(
        folder, kind, config, skeleton=skeleton, batch_size=batch_size
    )


def crops_of(sub, side):
    return warping.warp_images(
        sub["window"],
        sub["window_intrinsics"],
        sub["distortion_coeffs"],
        sub["crop_from_camera"],
        sub["intrinsics"],
        side,
        jit_compile=False,
    ).numpy()


def spot_errors(sub, side):
    """Returns distances between labels and spot centroids, for spots well inside the crop."""
    errors = []
    radius = side / 16
    y, x = np.mgrid[:side, :side]
    for crop, points in zip(crops_of(sub, side), sub["coords2d_true"].numpy(), strict=True):
        for point in points[:5]:
            others = points[:5][np.any(points[:5] != point, axis=-1)]
            is_alone = np.linalg.norm(others - point, axis=-1).min() > 2 * radius
            if not is_alone or np.any(point < radius) or np.any(point > side - 1 - radius):
                continue
            near = (x - point[0]) ** 2 + (y - point[1]) ** 2 < radius**2
            weight = near * np.maximum(crop[..., 0] - np.median(crop[..., 0][near]), 0)
            center = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            errors.append(np.linalg.norm(center - point))
    return np.array(errors)


def assert_same(a, b):
    tf.nest.map_structure(lambda x, y: np.testing.assert_array_equal(x, y), a, b)


@pytest.mark.parametrize(
    ("kind", "width", "extension", "side"),
    [
        ("kp3d", 320, ".png", 96),
        ("kp3d", 1280, ".jpg", 96),
        ("kp2d", 1280, ".png", 64),
        ("kp2d", 640, ".jpg", 160),
    ],
)
def test_crop_and_labels_agree(tmp_path, kind, width, extension, side):
    # Covers whole and scaled JPEG decoding, and PNG with and without shrinking.
    folder = toy.write_toy(
        tmp_path, n_shards=1, n_images=3, n_people=(1, 2), width=width, extension=extension
    )
    config = pipeline.PipelineConfig(proc_side=side, n_parallel_calls=2)
    batch = next(iter(train([f"{kind}:{folder}:8"], config=config)))[kind]
    errors = spot_errors(batch, side)
    assert len(errors) > 15
    assert errors.max() < 0.5 and np.median(errors) < 0.12


@pytest.mark.parametrize("change", ["partial", "full_rotation"])
def test_labels_follow_partial_views_and_full_turns(tmp_path, change):
    folder = toy.write_toy(tmp_path, n_shards=1, n_images=8, n_people=(1,), width=640)
    plain, changed = (
        next(iter(train([f"kp3d:{folder}:40:{change}={probability}"])))["kp3d"]
        for probability in (0, 1)
    )
    errors = spot_errors(changed, 96)
    assert len(errors) > 25
    assert errors.max() < 0.5 and np.median(errors) < 0.12
    if change == "partial":  # the same people fill more of the crop
        focal = [sub["intrinsics"][:, 0, 0].numpy() for sub in (plain, changed)]
        assert np.median(focal[1]) > 1.2 * np.median(focal[0])
    else:  # some stand on their heads
        upright = changed["crop_from_camera"][:, 1, 1].numpy()
        assert upright.min() < -0.5 and upright.max() > 0.5


def test_batch_has_the_promised_form(toy_dir):
    sources = [f"kp3d:{toy_dir}:3", f"kp2d:{toy_dir}:2", f"kp2d:{toy_dir}:1"]
    dataset = train(sources, skeleton=UNION)
    batch = next(iter(dataset))
    assert sorted(batch) == ["kp2d", "kp3d"]
    for sub in batch.values():
        shapes = {name: (tuple(t.shape), t.dtype.name) for name, t in sub.items()}
        assert shapes == {
            "window": ((3, 144, 144, 3), "uint8"),
            "window_intrinsics": ((3, 3, 3), "float32"),
            "distortion_coeffs": ((3, 12), "float32"),
            "crop_from_camera": ((3, 3, 3), "float32"),
            "intrinsics": ((3, 3, 3), "float32"),
            "coords3d_true": ((3, 22, 3), "float32"),
            "coords2d_true": ((3, 22, 2), "float32"),
            "point_validity": ((3, 22), "bool"),
            "box": ((3, 4), "float32"),
            "example_seed": ((3, 2), "int32"),
        }
        assert np.all(sub["point_validity"][:, :5]) and not np.any(sub["point_validity"][:, 5:])
        assert not np.any(sub["coords2d_true"][:, 5:])
    static = dataset.element_spec["kp3d"]["window"].shape
    assert static == (3, 144, 144, 3)


def test_labels_are_the_records_seen_by_the_crop_camera(toy_dir):
    batch = next(iter(train([f"kp3d:{toy_dir}:16"])))["kp3d"]
    coords3d, rotation = batch["coords3d_true"].numpy(), batch["crop_from_camera"].numpy()
    homogeneous = np.einsum("bpc,bdc->bpd", coords3d, batch["intrinsics"].numpy())
    projected = homogeneous[..., :2] / homogeneous[..., 2:]
    np.testing.assert_allclose(batch["coords2d_true"], projected, atol=1e-4)
    is_mirrored = np.linalg.det(rotation) < 0
    assert 0 < is_mirrored.sum() < 16
    in_camera = np.einsum("bpc,bcd->bpd", coords3d, rotation)
    order = np.where(is_mirrored[:, None], np.array(toy.TOY.mirror_indices), np.arange(5))
    in_camera = np.take_along_axis(in_camera, order[..., None], axis=1)
    stored = [p.points3d for s in range(3) for r in toy.make_shard(s) for p in r.people]
    distances = np.abs(in_camera[:, None] - np.array(stored)[None]).max(axis=(2, 3))
    np.testing.assert_allclose(distances.min(axis=1), 0, atol=1e-5)


def test_content_is_a_function_of_the_seed(toy_dir):
    sources = [f"kp3d:{toy_dir}:3", f"kp2d:{toy_dir}:2"]
    first = list(train(sources).take(8))
    for n in (1, 16):
        threads = pipeline.PipelineConfig(proc_side=96, n_parallel_calls=n, shuffle_buffer=8)
        assert_same(first, list(train(sources, config=threads).take(8)))
    other = next(iter(train(sources, seed=4)))
    assert np.any(other["kp3d"]["box"] != first[0]["kp3d"]["box"])
    # Another batch size changes neither the order of the examples nor their augmentation (but the
    # last bit of some numbers, hence sometimes a window's rounding).
    larger = next(iter(train([f"kp3d:{toy_dir}:12"])))["kp3d"]
    for name in set(larger) - {"window", "window_intrinsics"}:
        smaller = np.concatenate([batch["kp3d"][name] for batch in first])[:12]
        np.testing.assert_allclose(larger[name], smaller, rtol=1e-5, atol=1e-3, err_msg=name)


def test_every_person_comes_once_a_round(toy_dir):
    whole = pipeline.PipelineConfig(proc_side=16, shuffle_buffer=1)
    numbers = [b["kp3d"]["box"].numpy() for b in train([f"kp3d:{toy_dir}:6"], config=whole).take(3)]
    assert len(np.unique(np.concatenate(numbers), axis=0)) == 18


def test_restored_iterator_goes_on_bit_identically(toy_dir, tmp_path):
    sources = [f"kp3d:{toy_dir}:3", f"kp3d:{toy_dir}:1", f"kp2d:{toy_dir}:2"]
    iterator = iter(train(sources))
    for _ in range(7):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    expected = [next(iterator) for _ in range(8)]
    restored = iter(train(sources))
    next(restored)
    tf.train.Checkpoint(iterator=restored).restore(path).assert_consumed()
    assert_same([next(restored) for _ in range(8)], expected)


def test_eval_is_complete_ordered_and_plain(toy_dir):
    batches = [batch["kp3d"] for batch in evaluate(toy_dir)]
    assert [len(batch["box"]) for batch in batches] == [4, 4, 4, 4, 2]
    ids = np.concatenate([batch["image_id"] for batch in batches]).astype(str)
    expected = [f"{s}-{i}" for s in range(3) for i in range(6) for _ in range((1, 2, 0)[i % 3])]
    assert list(ids) == expected
    assert np.all(np.linalg.det(np.concatenate([b["crop_from_camera"] for b in batches])) > 0)
    assert spot_errors(batches[0], 96).max() < 0.5


def test_eval_of_nobody_is_empty(tmp_path):
    folder = toy.write_toy(tmp_path, n_shards=1, n_images=2, n_people=(0,))
    assert list(evaluate(folder)) == []
    with pytest.raises(ValueError, match="no person with a valid kp3d annotation"):
        train([f"kp3d:{folder}:2"])


def test_other_annotation_kind_is_refused(tmp_path):
    folder = toy.write_toy(tmp_path, n_shards=1, kind="kp2d")
    with pytest.raises(ValueError, match="no person with a valid kp3d annotation.*other kind"):
        train([f"kp3d:{folder}:2"])
    sub = next(iter(train([f"kp2d:{folder}:2"])))["kp2d"]
    assert np.all(sub["point_validity"]) and not np.any(sub["coords3d_true"])


def test_foreign_skeleton_is_refused(toy_dir):
    with pytest.raises(ValueError, match="no joint of the model's skeleton 'coco_17'"):
        train([f"kp3d:{toy_dir}:2"], skeleton=skeletons.COCO_17)


def test_truncated_shard_is_named(tmp_path):
    folder = toy.write_toy(tmp_path, n_shards=2)
    path = records.DatasetInfo.load(folder).shard_paths(folder)[1]
    with open(path, "r+b") as file:
        file.truncate(1000)
    for make in (lambda: train([f"kp3d:{folder}:2"]), lambda: evaluate(folder)):
        with pytest.raises(ValueError, match="shard-00001-of-00002.tfrecord has 1000 bytes.*again"):
            make()


@pytest.mark.parametrize(
    "text", ["kp3d", "kp3d:folder", "kp3d:folder:x", "kp4d:folder:3", "kp3d::3"]
)
def test_misspelt_sources_are_refused(text):
    with pytest.raises(ValueError, match="kp3d|kp4d"):
        pipeline.parse_source(text)


def test_parse_source():
    assert pipeline.parse_source("kp2d:C:/data/x:4") == pipeline.SourceConfig(
        "C:/data/x", "kp2d", 4
    )
    with pytest.raises(ValueError, match="sources is empty"):
        train([])


@pytest.mark.parametrize(
    "changes", [{"proc_side": 0}, {"mirror_probability": 1.5}, {"max_scale": -1.0}]
)
def test_wrong_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        pipeline.PipelineConfig(**changes)
