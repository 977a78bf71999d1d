"""Random points on a body's surface."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import surface
from metrabs_like.geometry.smpl import BodyModel
from tests.geometry.bodies import random_model


def flat_model(faces):
    """A square of 1 m cut into triangles of 1/8, 3/8 and 1/2 of it."""
    return BodyModel(
        name="flat",
        v_template=[[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.25, 0, 0]],
        shapedirs=np.zeros((5, 3, 0)),
        joint_regressor=np.full((1, 5), 0.2),
        weights=np.ones((5, 1)),
        faces=faces,
        parents=(-1,),
    )


SQUARE = [[0, 4, 3], [4, 1, 3], [1, 2, 3]]


def test_face_areas_by_hand():
    model = flat_model(SQUARE)
    areas = surface.face_areas(model.v_template, model.faces)
    np.testing.assert_allclose(areas, [0.125, 0.375, 0.5])


def test_points_are_even_over_the_area():
    """Chi-square over an 8 x 8 grid of the square and over the faces."""
    model = flat_model(SQUARE)
    ids, weights = surface.sample_surface_points(model, (4, 5000), tf.constant([3, 4]))
    ids, weights = ids.numpy().reshape(-1, 3), weights.numpy().reshape(-1, 3)
    points = (model.v_template[ids] * weights[..., np.newaxis]).sum(axis=1)
    cells = np.minimum((points[:, :2] * 8).astype(int), 7)
    counts = np.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64)
    expected = len(points) / 64
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)
    shares = [np.mean((ids == face).all(axis=1)) for face in SQUARE]
    np.testing.assert_allclose(shares, [0.125, 0.375, 0.5], atol=0.02)


def test_weights_are_barycentric(rng):
    model = random_model(rng)
    ids, weights = surface.sample_surface_points(model, [2, 300], tf.constant([1, 2]))
    assert ids.shape == weights.shape == (2, 300, 3)
    assert ids.dtype == tf.int32 and weights.dtype == tf.float32
    assert weights.numpy().min() >= 0
    np.testing.assert_array_equal(weights.numpy().sum(axis=-1), 1.0)
    faces = {tuple(face) for face in model.faces}
    assert {tuple(row) for row in ids.numpy().reshape(-1, 3)} <= faces


def test_faces_without_area_are_never_taken():
    model = flat_model([*SQUARE, [0, 4, 1], [2, 2, 2]])
    ids, _ = surface.sample_surface_points(model, [20000], tf.constant([0, 1]))
    assert {tuple(row) for row in ids.numpy()} == {tuple(face) for face in SQUARE}
    with pytest.raises(ValueError, match="no face with an area"):
        surface.sample_surface_points(flat_model([[2, 2, 2]]), [3], tf.constant([0, 1]))


def test_numbers_depend_on_the_seed_alone_and_not_on_xla(rng):
    model = random_model(rng)

    def draw(shape, seed):
        return surface.sample_surface_points(model, shape, seed)

    signature = [tf.TensorSpec([2], tf.int32), tf.TensorSpec([2], tf.int32)]
    graph = tf.function(draw, signature, autograph=False)
    compiled = tf.function(lambda seed: draw((3, 50), seed), autograph=False, jit_compile=True)
    seed = tf.constant([7, -9])
    reference = draw((3, 50), seed)
    for other in (graph(tf.constant([3, 50]), seed), compiled(seed)):
        for ours, expected in zip(other, reference, strict=True):
            np.testing.assert_array_equal(ours, expected)
    graph(tf.constant([1, 5]), seed)
    assert graph.experimental_get_tracing_count() == 1
    assert (draw((3, 50), seed + 1)[1].numpy() != reference[1].numpy()).any()


def test_no_points(rng):
    ids, weights = surface.sample_surface_points(random_model(rng), (0, 4), tf.constant([1, 2]))
    assert ids.shape == weights.shape == (0, 4, 3)
