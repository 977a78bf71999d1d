"""The pipeline's labels of body parameters and surface points."""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import pipeline, preparation, records
from metrabs_like.data.sources import CHANGES
from metrabs_like.skeletons import COCO_17
from tests.data import toy

CONFIG = pipeline.PipelineConfig(
    proc_side=64, max_roll_degrees=0, max_scale=0, max_shift=0, mirror_probability=0
)
N_SURFACE = 6


def _body(rng):
    pose = rng.normal(size=(24, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    camera_from_body = np.concatenate([turn, rng.normal(size=(3, 1))], axis=1)
    return records.BodyParameters(pose, rng.normal(size=10), rng.normal(size=3), camera_from_body)


def _make_shard(shard_index, n_surface):
    """Toy people whose surface points lie on their joints, with joint 0's number as vertex."""
    rng = np.random.default_rng(shard_index + 50)
    for record in toy.make_shard(shard_index, n_people=(1, 2)):
        for person in record.people:
            person.body = _body(rng)
            joint = rng.integers(0, 5, n_surface)
            ids = np.stack([joint, joint + 10, joint + 20], axis=1)
            weights = rng.dirichlet([1, 1, 1], n_surface)
            person.surface = records.SurfacePoints(ids, weights, person.points2d[joint])
        yield record


@pytest.fixture(scope="module", params=[N_SURFACE, 40])
def folder(request, tmp_path_factory):
    """A data set whose people have so many surface points each, and that number."""
    n = request.param
    path = str(tmp_path_factory.mktemp(f"kinds{n}"))

    def task(index):
        return _make_shard(index, n)

    info = records.DatasetInfo(
        name="toy", kind="param", skeleton=toy.TOY.to_dict(), body_model={"name": "toy"}
    )
    preparation.write_dataset([task, task], path, info, n_processes=1, progress=False)
    return path, n


def _evaluated(folder, kind, config=CONFIG):
    dataset = pipeline.make_eval_dataset(folder, kind, config, skeleton=toy.TOY, batch_size=64)
    (batch,) = list(dataset)
    return batch[kind]


def _people(n_surface):
    for index in range(2):
        for record in _make_shard(index, n_surface):
            yield from ((record, person) for person in record.people)


def test_counts_name_every_kind(folder):
    counts = records.DatasetInfo.load(folder[0]).counts
    assert counts["n_people_param"] == counts["n_people_dense"] == counts["n_people"] == 18


def test_body_parameters_go_to_the_crop_camera(folder):
    path, n = folder
    batch = _evaluated(path, "param")
    assert batch["pose_rotvecs"].shape == (18, 24, 3)
    for i, (_, person) in enumerate(_people(n)):
        np.testing.assert_allclose(batch["pose_rotvecs"][i], person.body.pose_rotvecs, atol=1e-6)
        np.testing.assert_allclose(batch["translation"][i], person.body.translation, atol=1e-6)
        np.testing.assert_allclose(batch["shape_betas"][i], person.body.shape_betas, atol=1e-6)
        expected = batch["crop_from_camera"][i].numpy() @ person.body.camera_from_body
        np.testing.assert_allclose(batch["crop_from_body"][i], expected, atol=1e-5)


@pytest.mark.parametrize("n_chosen", [16])
def test_surface_points_lie_where_the_joints_lie(folder, n_chosen):
    path, n = folder
    config = pipeline.PipelineConfig(proc_side=64, n_surface_points=n_chosen)
    batch = _evaluated(path, "dense", config)
    joints = _evaluated(path, "kp2d", config)["coords2d_true"].numpy()
    valid = batch["point_validity"].numpy()
    assert valid.shape == (18, n_chosen) and (valid.sum(axis=1) == min(n, n_chosen)).all()
    vertex = batch["surface_ids"][..., 0].numpy()
    np.testing.assert_array_equal(batch["surface_ids"][..., 1], np.where(valid, vertex + 10, 0))
    for i, (_, person) in enumerate(_people(n)):
        found = batch["coords2d_true"][i].numpy()[valid[i]]
        np.testing.assert_allclose(found, joints[i, vertex[i][valid[i]]], atol=1e-3)
        known = {tuple(row) for row in np.float32(person.surface.weights)}
        weights = batch["surface_weights"][i].numpy()[valid[i]]
        assert len({tuple(row) for row in weights}) == min(n, n_chosen)
        assert {tuple(row) for row in weights} <= known


def test_training_draws_other_surface_points_each_time(folder):
    path, n = folder
    config = pipeline.PipelineConfig(proc_side=32, n_surface_points=4, mirror_probability=0.5)
    sources = [f"dense:{path}:9"]
    dataset = pipeline.make_train_dataset(sources, config, skeleton=toy.TOY, seed=1)
    chosen = {
        tuple(row)
        for batch in dataset.take(8)
        for row in batch["dense"]["surface_weights"][:, 0, :1].numpy()
    }
    assert len(chosen) > 18 + 5  # more than one choice for many of the 18 people


def test_all_kinds_come_in_one_batch(folder):
    path, _ = folder
    sources = [f"{kind}:{path}:{n}" for n, kind in enumerate(("kp3d", "param", "kp2d", "dense"), 2)]
    dataset = pipeline.make_train_dataset(sources, CONFIG, skeleton=toy.TOY, seed=1)
    batch = next(iter(dataset))
    sizes = {kind: part["window"].shape[0] for kind, part in batch.items()}
    assert sizes == {"kp3d": 2, "param": 3, "kp2d": 4, "dense": 5}


def test_mirrored_crops_mirror_the_way_from_the_body(folder):
    path, _ = folder
    config = pipeline.PipelineConfig(proc_side=32, mirror_probability=1)
    dataset = pipeline.make_train_dataset([f"param:{path}:4"], config, skeleton=toy.TOY, seed=1)
    batch = next(iter(dataset))["param"]
    assert (np.linalg.det(batch["crop_from_camera"].numpy()) < 0).all()


def test_bodies_need_no_joint_of_the_models_skeleton(folder):
    """The model's joints come from the body."""
    path, _ = folder
    dataset = pipeline.make_train_dataset([f"param:{path}:2"], CONFIG, skeleton=COCO_17, seed=1)
    assert next(iter(dataset))["param"]["pose_rotvecs"].shape == (2, 24, 3)


def test_a_kind_that_the_set_lacks_is_refused(toy_dir):
    for kind in ("param", "dense"):
        with pytest.raises(ValueError, match=f"no person with a valid {kind} annotation"):
            pipeline.make_train_dataset([f"{kind}:{toy_dir}:2"], CONFIG, skeleton=toy.TOY, seed=0)


def test_linear_light_averages_light(tmp_path):
    """A fine chessboard, shrunk ninefold: half the light, not half the grey level."""
    board = np.kron(np.indices((128, 128)).sum(axis=0) % 2, np.ones((4, 4))) * 255
    image = np.repeat(np.uint8(board)[..., None], 3, axis=-1)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    ((_, person), *_) = list(_people(N_SURFACE))
    person = dataclasses.replace(person, box=np.array([6.0, 6, 500, 500]))
    intrinsics = np.array([[512.0, 0, 255.5], [0, 512, 255.5], [0, 0, 1]])
    record = records.Record(encoded, 512, 512, "board", "toy", intrinsics, people=[person])
    info = records.DatasetInfo(name="toy", kind="kp3d", skeleton=toy.TOY.to_dict())
    folder = str(tmp_path)
    preparation.write_dataset(
        [lambda index: iter([record])], folder, info, n_processes=1, progress=False
    )
    means = {}
    for linear_light in (False, True):
        config = dataclasses.replace(CONFIG, window_side=56, linear_light=linear_light)
        window = _evaluated(folder, "kp3d", config)["window"].numpy()
        means[linear_light] = np.mean(window[0, 10:40, 10:40])
    assert abs(means[False] - 128) < 4 and abs(means[True] - 188) < 4


def test_a_restored_iterator_of_all_kinds_and_changes_goes_on_bit_identically(folder, tmp_path):
    path, _ = folder
    sources = [f"{kind}:{path}:2" for kind in ("param", "kp3d", "dense", "kp2d")]
    config = pipeline.PipelineConfig(
        proc_side=32,
        shuffle_buffer=4,
        n_backgrounds=3,
        n_objects=3,
        n_surface_points=4,
        **{f"{change}_probability": 0.5 for change in CHANGES},
    )

    def make():
        return iter(pipeline.make_train_dataset(sources, config, skeleton=toy.TOY, seed=3))

    iterator = make()
    for _ in range(5):
        next(iterator)
    saved = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "position"))
    expected = [next(iterator) for _ in range(4)]
    restored = make()
    tf.train.Checkpoint(iterator=restored).restore(saved).assert_consumed()
    for batch in expected:
        tf.nest.map_structure(np.testing.assert_array_equal, batch, next(restored))
