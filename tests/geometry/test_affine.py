"""Affine placements: hand-made maps, inverses, mirroring, rounding, one trace for all batches."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import affine
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match

OUTPUT = (96, 64)  # width, height


def random_placements(rng, n=6):
    return {
        "center": rng.uniform(0, 500, (n, 2)).astype(np.float32),
        "scale": rng.uniform(60, 700, n).astype(np.float32),
        "angle_degrees": rng.uniform(-80, 80, n),
    }


def three_points(center, scale, angle_degrees, output_size):
    """Three float32 points and where they go, by the released code's description."""
    angle = np.radians(angle_degrees)
    half = np.float64(scale) / 2
    first = np.array(center, np.float32)
    second = (first.astype(np.float64) + [np.sin(angle) * half, -np.cos(angle) * half]).astype(
        np.float32
    )
    back = first - second
    source = np.stack([first, second, second + np.stack([-back[1], back[0]])])
    width, height = output_size
    target = np.array([[width, height], [width, height - width], [0, height - width]]) / 2
    return source, target.astype(np.float32)


def eliminated(source, target):
    """The six equations solved as OpenCV does: rows of x and y in turns, largest pivot first."""
    rows = []
    for (x, y), (u, v) in zip(source.tolist(), target.tolist(), strict=True):
        rows += [[x, y, 1.0, 0.0, 0.0, 0.0, u], [0.0, 0.0, 0.0, x, y, 1.0, v]]
    for i in range(6):
        pivot = max(range(i, 6), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, 6):
            factor = rows[k][i] * (-1 / rows[i][i])
            rows[k] = [a + factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    solution = [0.0] * 6
    for i in reversed(range(6)):
        rest = rows[i][6]
        for k in range(i + 1, 6):
            rest -= rows[i][k] * solution[k]
        solution[i] = rest / rows[i][i]
    return np.reshape(solution, (2, 3))


def test_hand_made_map_halves_and_centres():
    matrix = affine.affine_from_placement([[50.0, 40]], [200.0], 0.0, (100, 60))
    assert matrix.dtype == tf.float64
    np.testing.assert_allclose(matrix, [[[0.5, 0, 25], [0, 0.5, 10], [0, 0, 1]]], atol=1e-12)


def test_convention_a_positive_angle_turns_the_content_counterclockwise():
    matrix = affine.affine_from_placement([[50.0, 50]], [100.0], [90.0], (100, 100))
    right, below = affine.transform_points(matrix, [[[80.0, 50], [50.0, 80]]]).numpy()[0]
    np.testing.assert_allclose(right, [50, 20], atol=1e-4)  # what was right is on top
    np.testing.assert_allclose(below, [80, 50], atol=1e-4)


def test_agrees_with_three_points_rounded_to_float32(rng):
    placements = random_placements(rng)
    matrix = affine.affine_from_placement(**placements, output_size=OUTPUT).numpy()
    for i, found in enumerate(matrix):
        source, target = three_points(*(value[i] for value in placements.values()), OUTPUT)
        columns = np.concatenate([source, np.ones((3, 1))], axis=1)
        np.testing.assert_allclose(found[:2], np.linalg.solve(columns, target).T, atol=1e-10)
    unrounded = placements["scale"].astype(np.float64) / OUTPUT[0]
    size = 1 / np.sqrt(np.abs(np.linalg.det(matrix[:, :2, :2])))
    np.testing.assert_allclose(size, unrounded, rtol=1e-5)
    assert np.abs(size - unrounded).max() > 1e-10  # the rounding is there


def test_an_edge_of_the_image_lands_on_zero_or_beside_it_as_released(rng):
    """Bit by bit: the last bit decides whether a joint on that edge is inside."""
    n = 200
    center = rng.integers(30, 300, (n, 2)).astype(np.float32)
    scale = (rng.integers(60, 640, n) * rng.choice([0.6, 0.7, 1.0, 1.1], n)).astype(np.float32)
    matrix = affine.affine_from_placement(center, scale, 0.0, (128, 128)).numpy()
    for i in range(n):
        points = three_points(center[i], scale[i], 0.0, (128, 128))
        np.testing.assert_array_equal(matrix[i, :2], eliminated(*points))
    edge = affine.transform_points(
        matrix, center[:, np.newaxis] - scale[:, np.newaxis, np.newaxis] / 2
    )
    assert np.abs(edge).max() < 1e-4 and 0 < np.mean(edge < 0) < 1


def test_only_the_width_sets_the_scale_and_the_height_the_middle(rng):
    placements = random_placements(rng)
    scale = placements.pop("scale")
    low = affine.affine_from_placement(scale=scale, output_size=(96, 64), **placements)
    high = affine.affine_from_placement(
        scale=np.stack([scale, 3 * scale], axis=-1), output_size=(96, 128), **placements
    )
    np.testing.assert_allclose(high[:, :2, :2], low[:, :2, :2], atol=1e-12)
    np.testing.assert_allclose(high[:, 0, 2], low[:, 0, 2], atol=1e-9)
    np.testing.assert_allclose(high[:, 1, 2] - low[:, 1, 2], np.full(6, 32.0), atol=1e-9)


def test_output_sizes_can_differ(rng):
    placements = random_placements(rng, 2)
    both = affine.affine_from_placement(**placements, output_size=[[96, 64], [32, 48]])
    for i, size in enumerate([(96, 64), (32, 48)]):
        one = {name: value[i : i + 1] for name, value in placements.items()}
        np.testing.assert_array_equal(
            both[i : i + 1], affine.affine_from_placement(**one, output_size=size)
        )


def test_shift_moves_by_shares_of_the_scale():
    scale = [[200.0, 100.0]]
    shifted = affine.affine_from_placement(
        [[50.0, 40]], scale, 0.0, OUTPUT, shift=tf.constant([[0.1, -0.2]])
    )
    np.testing.assert_allclose(
        shifted, affine.affine_from_placement([[70.0, 20]], scale, 0.0, OUTPUT), atol=1e-6
    )


@pytest.mark.parametrize("is_mirrored", [None, [True, False, True, False, True, True]])
def test_inverse_undoes_the_map(rng, is_mirrored):
    placements = random_placements(rng)
    width = None if is_mirrored is None else np.arange(300, 306)
    forward, backward = (
        affine.affine_from_placement(
            **placements,
            output_size=OUTPUT,
            is_mirrored=is_mirrored,
            image_width=width,
            inverse=inverse,
        )
        for inverse in (False, True)
    )
    np.testing.assert_allclose(forward @ backward, np.tile(np.eye(3), (6, 1, 1)), atol=1e-9)


def test_a_mirrored_image_is_mirrored_before_it_is_placed(rng):
    placements = random_placements(rng, 2)
    points = rng.uniform(0, 300, (2, 4, 2)).astype(np.float32)
    mirrored = points * [-1, 1] + [299, 0]
    matrix = affine.affine_from_placement(
        **placements, output_size=OUTPUT, is_mirrored=[True, True], image_width=[300, 300]
    )
    plain = affine.affine_from_placement(**placements, output_size=OUTPUT)
    np.testing.assert_allclose(
        affine.transform_points(matrix, points),
        affine.transform_points(plain, mirrored),
        atol=1e-4,
    )
    assert np.all(np.linalg.det(matrix) < 0)


def test_mirroring_exchanges_the_first_and_the_last_pixel():
    matrix = affine.mirror_matrix([True, False], [10, 10])
    points = np.tile([[[0.0, 3], [9, 3]]], (2, 1, 1))
    np.testing.assert_array_equal(
        affine.transform_points(matrix, points), [[[9, 3], [0, 3]], [[0, 3], [9, 3]]]
    )
    np.testing.assert_array_equal(matrix @ matrix, np.tile(np.eye(3), (2, 1, 1)))


def test_mirroring_needs_the_width():
    with pytest.raises(ValueError, match="image_width"):
        affine.affine_from_placement([[0.0, 0]], [1.0], 0.0, OUTPUT, is_mirrored=[True])


def test_mismatching_shapes_are_refused():
    with pytest.raises(ValueError, match="`scale` has shape"):
        affine.affine_from_placement([[0.0, 0]], [1.0, 2.0], 0.0, OUTPUT)
    with pytest.raises(ValueError, match="`center` has shape"):
        affine.affine_from_placement([[0.0, 0, 0]], [1.0], 0.0, OUTPUT)
    with pytest.raises(ValueError, match="`matrix` has shape"):
        affine.transform_points(np.zeros((1, 2, 3)), np.zeros((1, 5, 2)))


def test_points_are_rounded_to_float32_and_multiplied_in_float64():
    matrix = np.array([[[3.0, 0, 0.1], [0, 1, 0], [0, 0, 1]]])
    mapped = affine.transform_points(matrix, np.array([[[0.1, 1e-9]]])).numpy()
    expected = [3 * np.float64(np.float32(0.1)) + 0.1, np.float64(np.float32(1e-9))]
    np.testing.assert_allclose(mapped[0, 0], expected, rtol=1e-15)
    assert mapped[0, 0, 0] != 3 * 0.1 + 0.1


def test_points_may_have_more_dimensions_and_nan_stays_where_it_is(rng):
    matrix = affine.affine_from_placement(**random_placements(rng, 2), output_size=OUTPUT)
    points = rng.uniform(0, 100, (2, 3, 4, 2))
    flat = affine.transform_points(matrix, points.reshape(2, 12, 2)).numpy().reshape(points.shape)
    np.testing.assert_array_equal(affine.transform_points(matrix, points), flat)
    points[1, 2, 3, 0] = np.nan
    mapped = affine.transform_points(matrix, points).numpy()
    assert not np.isfinite(mapped[1, 2, 3]).any()
    mapped[1, 2, 3] = flat[1, 2, 3]
    np.testing.assert_array_equal(mapped, flat)


def test_points_gradient(rng):
    weight = rng.normal(size=(2, 3, 2))
    assert_gradients_match(
        lambda matrix, points: tf.reduce_sum(affine.transform_points(matrix, points) * weight),
        [rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3, 2))],
        step=0.5,  # linear in each argument; the points are rounded
        atol=1e-5,
    )


def test_predictions_return_to_the_image(rng):
    placements = random_placements(rng)
    del placements["angle_degrees"]
    points = rng.uniform(0, 500, (6, 5, 2)).astype(np.float32)
    matrix = affine.affine_from_placement(**placements, angle_degrees=0.0, output_size=OUTPUT)
    seen = affine.transform_points(matrix, points)
    np.testing.assert_allclose(
        affine.transform_preds(seen, **placements, output_size=OUTPUT), points, atol=1e-3
    )


def batch_of(rng, n):
    placements = random_placements(rng, n)
    is_mirrored, width = rng.uniform(size=n) < 0.5, rng.integers(50, 500, n)
    points = rng.uniform(0, 100, (n, 3, 2)).astype(np.float32)
    return [*placements.values(), is_mirrored, width, points]


def test_one_trace_for_all_batch_sizes_also_under_xla(rng):
    def mapped(center, scale, angle, is_mirrored, width, points):
        matrix = affine.affine_from_placement(
            center, scale, angle, OUTPUT, is_mirrored=is_mirrored, image_width=width
        )
        return tf.cast(affine.transform_points(matrix, points), tf.float32)

    assert_compiles_once(mapped, [batch_of(rng, n) for n in (3, 1, 0)])


def test_fixed_resolution_fits_the_image_into_the_input():
    found = affine.pre_process([[480, 640], [300, 100]], fix_resolution=True)
    np.testing.assert_array_equal(found["resized_size"], [[480, 640], [300, 100]])
    np.testing.assert_array_equal(found["center"], [[320, 240], [50, 150]])
    np.testing.assert_array_equal(found["scale"], [[640, 640], [300, 300]])
    np.testing.assert_array_equal(found["input_size"], [[512, 512]] * 2)
    np.testing.assert_array_equal(found["map_size"], [[128, 128]] * 2)
    corners = np.array([[[0.0, 0], [640, 480]], [[0.0, 0], [100, 300]]])
    np.testing.assert_allclose(
        affine.transform_points(found["input_from_resized"], corners),
        [[[0, 64], [512, 448]], [[512 / 3, 0], [1024 / 3, 512]]],
        atol=1e-3,
    )


def test_fixed_resolution_of_a_smaller_picture_keeps_the_original_scale():
    found = affine.pre_process([[427, 640]], 0.5, fix_resolution=True, input_size=(256, 320))
    np.testing.assert_array_equal(found["resized_size"], [[213, 320]])
    np.testing.assert_array_equal(found["center"], [[160, 106.5]])
    np.testing.assert_array_equal(found["scale"], [[640, 640]])
    np.testing.assert_array_equal(found["map_size"], [[64, 80]])
    np.testing.assert_allclose(found["input_from_resized"][0, 0, 0], 0.5, atol=1e-9)


def test_kept_resolution_pads_to_the_next_stride():
    found = affine.pre_process([[512, 511], [97, 61]], fix_resolution=False)
    np.testing.assert_array_equal(found["input_size"], [[544, 512], [128, 64]])
    np.testing.assert_array_equal(found["map_size"], [[136, 128], [32, 16]])
    np.testing.assert_array_equal(found["center"], [[255, 256], [30, 48]])
    np.testing.assert_array_equal(found["scale"], [[512, 544], [64, 128]])
    np.testing.assert_allclose(
        found["input_from_resized"][:, :2, :2], np.tile(np.eye(2), (2, 1, 1)), atol=1e-12
    )
    assert affine.pre_process(np.zeros((0, 2)), fix_resolution=False)["center"].shape == (0, 2)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_images_cannot_be_resized_away(scale):
    with pytest.raises(ValueError, match="scale="):
        affine.pre_process([[10, 10]], scale, fix_resolution=True)
