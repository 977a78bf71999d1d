import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import serving, skeletons

LOAD_ALONE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "metrabs_like":
            raise ImportError("hidden")
sys.meta_path.insert(0, Hidden())
import numpy as np
import tensorflow as tf
folder, given, answer = sys.argv[1:]
model = tf.saved_model.load(folder)
try:
    import metrabs_like
except ImportError:
    pass
else:
    raise SystemExit("the package is importable")
scene = np.load(given)
result = model.estimate_poses(scene["image"], scene["box"], scene["intrinsics"])
np.savez(answer, **{key: value.numpy() for key, value in result.items()})
"""


def test_reloads_without_the_package_to_the_same_numbers(
    predictor, saved_predictor, scene, tmp_path
):
    image, _, box, intrinsics = scene
    np.savez(tmp_path / "scene.npz", image=image, box=box, intrinsics=intrinsics)
    command = [sys.executable, "-I", "-c", LOAD_ALONE, saved_predictor[1]]
    command += [tmp_path / "scene.npz", tmp_path / "answer.npz"]
    subprocess.run([str(part) for part in command], check=True, cwd=tmp_path, timeout=120)
    expected = predictor.estimate_poses(image, box, intrinsics)
    with np.load(tmp_path / "answer.npz") as answer:
        assert set(answer) == {"boxes", "poses3d", "poses2d", "uncertainties"}
        for key in answer:
            np.testing.assert_allclose(answer[key], expected[key], rtol=1e-5, atol=1e-4)


def test_batched_form_and_defaults_survive(predictor, saved_predictor, scene):
    image, _, box, _ = scene
    boxes = tf.ragged.constant([box.tolist(), []], ragged_rank=1)
    images = np.stack([image, image])
    expected = predictor.estimate_poses_batched(images, boxes)
    result = saved_predictor[0].estimate_poses_batched(images, boxes)
    np.testing.assert_allclose(result["poses3d"][0], expected["poses3d"][0], rtol=1e-5, atol=1e-3)
    assert result["poses3d"].row_lengths().numpy().tolist() == [1, 0]


def test_attributes_are_the_published_ones(saved_predictor):
    model = saved_predictor[0]
    assert model.joint_names.numpy().tolist() == [b"mid", b"lsho", b"rsho"]
    assert model.joint_edges.numpy().tolist() == [[0, 1], [0, 2]]
    assert model.per_skeleton_indices["discs"].numpy().tolist() == [0, 1, 2]
    assert {key: value.numpy().decode() for key, value in model.units.items()} == {
        "boxes": "px",
        "poses3d": "mm",
        "poses2d": "px",
        "uncertainties": "mm",
    }


def test_default_signature_is_dense(saved_predictor, predictor, scene):
    image, _, box, intrinsics = scene
    nothing = np.full_like(box, np.nan)
    serve = saved_predictor[0].signatures["serving_default"]
    result = serve(
        images=tf.constant(np.stack([image, image])),
        boxes=tf.constant(
            np.stack([np.concatenate([box, nothing]), np.concatenate([nothing] * 2)])
        ),
        n_boxes=tf.constant([1, 0]),
        intrinsic_matrix=tf.constant(intrinsics[np.newaxis]),
        distortion_coeffs=tf.zeros([1, 5]),
        extrinsic_matrix=tf.eye(4)[tf.newaxis],
    )
    expected = predictor.estimate_poses(image, box, intrinsics)
    assert result["n_boxes"].numpy().tolist() == [1, 0]
    for name in ("poses3d", "poses2d", "uncertainties"):
        assert result[name].shape[:3] == (2, 2, 3)
        np.testing.assert_allclose(result[name][0, 0], expected[name][0], rtol=1e-4, atol=1e-2)
        assert not np.any(result[name][0, 1]) and not np.any(result[name][1])


def test_counts_beyond_the_boxes_are_refused(predictor, scene):
    image, _, box, intrinsics = scene
    with pytest.raises(tf.errors.InvalidArgumentError, match="n_boxes.*padded number"):
        predictor.serve(
            image[np.newaxis],
            box[np.newaxis],
            [2],
            intrinsics[np.newaxis],
            np.zeros([1, 5], np.float32),
            np.eye(4, dtype=np.float32)[np.newaxis],
        )


def test_network_variables_are_saved(tmp_path, scene):
    image, _, box, _ = scene
    inputs = {
        "image": tf.keras.Input([32, 32, 3], name="image"),
        "intrinsics": tf.keras.Input([3, 3], name="intrinsics"),
    }
    pooled = tf.keras.layers.GlobalAveragePooling2D()(inputs["image"])
    points = tf.keras.layers.Dense(41 * 4)(pooled)
    network = tf.keras.Model(inputs, {"points": tf.keras.layers.Reshape([41, 4])(points)})

    def decode(outputs, inputs):
        points = outputs["points"]
        return {"coords3d_abs": points[..., :3] + [0, 0, 3.0], "uncert": points[..., 3]}

    union = skeletons.get("smpl_24+coco_17")
    predictor = serving.PosePredictor(serving.crop_predictor(network, decode), 32, union)
    serving.save(predictor, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for skeleton, n_points in [("", 41), ("coco_17", 17), ("smpl_24", 24)]:
        expected = predictor.estimate_poses(image, box, skeleton=skeleton)["poses3d"]
        result = loaded.estimate_poses(image, box, skeleton=skeleton)["poses3d"]
        assert result.shape == (1, n_points, 3)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(
        loaded.predict_crops(tf.ones([2, 32, 32, 3]), tf.eye(3, batch_shape=[2]))["uncert"],
        network({"image": tf.ones([2, 32, 32, 3]), "intrinsics": tf.eye(3, batch_shape=[2])})[
            "points"
        ][..., 3],
        rtol=1e-5,
    )
    names = loaded.per_skeleton_joint_names["coco_17"].numpy().tolist()
    assert names == [name.encode() for name in skeletons.COCO_17.joint_names]
    edges = loaded.per_skeleton_joint_edges["coco_17"].numpy().tolist()
    assert edges == [list(edge) for edge in skeletons.COCO_17.edges]
    assert loaded.per_skeleton_indices["coco_17"].numpy().tolist() == list(range(24, 41))


def test_replaces_a_model_but_nothing_else(predictor, tmp_path):
    serving.save(predictor, tmp_path / "new" / "model")
    serving.save(predictor, tmp_path / "new" / "model")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    kept = tmp_path / "photos"
    kept.mkdir()
    (kept / "dear.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="photos.*no SavedModel.*another folder"):
        serving.save(predictor, kept)
    assert (kept / "dear.jpg").exists()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot be written"):
        serving.save(predictor, tmp_path / "file" / "model")
