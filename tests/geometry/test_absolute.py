"""Reference points and absolute reconstruction: truth, invariances, masks, graphs, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import absolute
from metrabs_like.geometry.camera import CropGrid
from scripts.benchmarks import plain
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match
from tests.geometry.scenes import GRID, make_scene

SOLVERS = {
    "weak": absolute.reconstruct_ref_weakpersp,
    "full": absolute.reconstruct_ref_fullpersp,
}
OPTIONS = {"grid": GRID, "mix_3d_inside_fov": 0.3, "border_factor1": 1, "border_factor2": 0.55}
SHAPES = ((4, 24), (1, 5), (0, 7))
both_solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def reconstruct(scene, **options):
    inputs = scene["coords2d"], scene["coords3d_rel"], scene["intrinsics"]
    options = {"point_validity_mask": scene["mask"], **OPTIONS, **options}
    return absolute.reconstruct_absolute(*inputs, **options)


def test_full_perspective_finds_the_true_position(rng):
    scene = make_scene(rng, dtype=np.float64)
    inputs = scene["normalized"], scene["coords3d_rel"], scene["mask"]
    ref = absolute.reconstruct_ref_fullpersp(*inputs, l2_regularizer=0.0)
    found = scene["coords3d_rel"] + ref.numpy()[:, np.newaxis]
    np.testing.assert_allclose(found, scene["coords3d_abs"], atol=1e-9)


def test_weak_perspective_finds_a_flat_pose(rng):
    scene = make_scene(rng, dtype=np.float64)
    scene["coords3d_abs"][..., 2] = scene["coords3d_abs"][:, :1, 2]
    normalized = scene["coords3d_abs"][..., :2] / scene["coords3d_abs"][..., 2:]
    rel = scene["coords3d_abs"] - [1.0, 2.0, 3.0]
    ref = absolute.reconstruct_ref_weakpersp(normalized, rel)
    np.testing.assert_allclose(ref, np.full((4, 3), [1.0, 2.0, 3.0]), rtol=1e-4)


def test_reconstruction_finds_the_truth(rng):
    scene = make_scene(rng, dtype=np.float64)
    found = reconstruct(scene, l2_regularizer=0.0)
    np.testing.assert_allclose(found, scene["coords3d_abs"], atol=1e-9)


@both_solvers
@pytest.mark.parametrize("shape", [(4, 24), (1, 24), (3, 1), (2, 2700)])
def test_agrees_with_the_plain_formulation_in_double_precision(rng, solver, shape):
    scene = make_scene(rng, *shape, noise_px=2, noise_m=0.02)
    mask = rng.uniform(size=shape) > 0.2
    args = scene["normalized"], scene["coords3d_rel"]
    exact = getattr(plain, solver.__name__)(*(tf.constant(x, tf.float64) for x in args), mask)
    np.testing.assert_allclose(solver(*args, mask), exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("position", [[3.0, -2.0, 60.0], [0.01, 0.02, 0.2], [0.3, 0.1, -4.0]])
def test_float32_is_enough_far_away_near_and_behind(rng, position):
    points = rng.normal(size=(1, 24, 3)) * 0.3 * min(abs(position[2]), 1.0) + position
    normalized = (points[..., :2] / points[..., 2:]).astype(np.float32)
    rel = (points - points[:, :1]).astype(np.float32)
    mask = np.ones((1, 24), bool)
    exact = plain.reconstruct_ref_fullpersp(
        tf.constant(normalized, tf.float64), tf.constant(rel, tf.float64), mask
    )
    found = absolute.reconstruct_ref_fullpersp(normalized, rel, mask)
    np.testing.assert_allclose(found, exact, rtol=5e-6)


def test_no_valid_point_weak_gives_one_metre_and_full_a_finite_depth(rng):
    scene = make_scene(rng, 2)
    nothing = np.zeros((2, 24), bool)
    args = scene["normalized"], scene["coords3d_rel"], nothing
    np.testing.assert_array_equal(SOLVERS["weak"](*args), [[0, 0, 1], [0, 0, 1]])
    full = SOLVERS["full"](*args).numpy()
    assert np.isfinite(full).all()
    assert (np.abs(full[:, :2]) < 0.1).all()


@both_solvers
def test_one_valid_point_is_finite_with_its_gradient(rng, solver):
    scene = make_scene(rng, 2)
    inputs = [tf.constant(scene["normalized"]), tf.constant(scene["coords3d_rel"])]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        ref = solver(*inputs, np.arange(24)[np.newaxis].repeat(2, 0) == 5)
    assert np.isfinite(ref).all()
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(ref, inputs))


@both_solvers
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e30])
def test_bad_values_at_masked_points_move_nothing(rng, solver, bad):
    scene = make_scene(rng, 2)
    valid = scene["mask"]

    def run(replacement):
        inputs = [scene["normalized"], scene["coords3d_rel"]]
        inputs = [
            tf.constant(np.where(valid[..., None], x, replacement), tf.float32) for x in inputs
        ]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            ref = solver(*inputs, valid)
            loss = tf.reduce_sum(ref**2)
        return ref, tape.gradient(loss, inputs)

    clean, clean_gradients = run(0.1)
    dirty, dirty_gradients = run(bad)
    # An ordinary masked value weighs 1e-8 under full perspective, as in the released code.
    np.testing.assert_allclose(dirty, clean, rtol=1e-5, atol=1e-5)
    for gradient, other in zip(dirty_gradients, clean_gradients, strict=True):
        np.testing.assert_allclose(
            np.asarray(gradient)[valid], np.asarray(other)[valid], rtol=1e-4, atol=1e-5
        )
        assert (np.asarray(gradient)[~valid] == 0).all()


def test_nan_at_a_valid_point_spoils_its_own_example_only(rng):
    scene = make_scene(rng)
    scene["coords3d_rel"][1, 0] = np.nan
    out = reconstruct(scene).numpy()
    np.testing.assert_array_equal(np.isfinite(out).all((1, 2)), [True, False, True, True])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("mix_based_on_3d", [True, False])
@pytest.mark.parametrize("is_inside", [True, False])
def test_a_broken_2d_head_at_a_valid_point_shows_there(rng, bad, mix_based_on_3d, is_inside):
    scene = make_scene(rng)
    if not is_inside:
        scene["coords3d_rel"][1, 0, 0] += 100.0
    scene["coords2d"][1, 0, 1] = bad
    out = reconstruct(scene, mix_based_on_3d=mix_based_on_3d).numpy()
    shown = np.zeros((4, 24), bool)
    shown[1, 0] = True
    np.testing.assert_array_equal(~np.isfinite(out).all(-1), shown)


def test_nan_heads_at_masked_points_stay_out_of_reconstruction(rng):
    scene = make_scene(rng)
    valid = scene["mask"]
    results = []
    for bad in (0.0, np.nan):
        heads = [scene["coords2d"].copy(), scene["coords3d_rel"].copy()]
        for head in heads:
            head[~valid] = bad
        heads = [tf.constant(head) for head in heads]
        with tf.GradientTape() as tape:
            tape.watch(heads)
            out = reconstruct({**scene, "coords2d": heads[0], "coords3d_rel": heads[1]})
            loss = tf.reduce_sum(tf.boolean_mask(out, valid) ** 2)
        results.append((out, tape.gradient(loss, heads)))
    # A masked value that is finite weighs 1e-8, as in the released code.
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5, atol=1e-6)
    for clean, dirty in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(dirty, clean, rtol=1e-4, atol=1e-5)
        assert (np.asarray(dirty)[~valid] == 0).all()


@pytest.mark.parametrize("weak", [True, False])
def test_examples_do_not_depend_on_the_rest_of_the_batch(rng, weak):
    scene = make_scene(rng, noise_px=3)
    together = reconstruct(scene, weak_perspective=weak)
    alone = reconstruct({k: v[2:3] for k, v in scene.items()}, weak_perspective=weak)
    np.testing.assert_allclose(together[2:3], alone, rtol=1e-6)


@pytest.mark.parametrize("weak", [True, False])
def test_permuting_points_permutes_the_result(rng, weak):
    scene = make_scene(rng, noise_px=3)
    order = rng.permutation(24)
    shuffled = {k: v if k == "intrinsics" else v[:, order] for k, v in scene.items()}
    expected = reconstruct(scene, weak_perspective=weak).numpy()[:, order]
    np.testing.assert_allclose(reconstruct(shuffled, weak_perspective=weak), expected, atol=2e-5)


@pytest.mark.parametrize("weak", [True, False])
def test_mirroring_the_image_mirrors_the_result(rng, weak):
    scene = make_scene(rng, noise_px=3, dtype=np.float64)
    flip = {key: value.copy() for key, value in scene.items()}
    flip["coords2d"][..., 0] = GRID.proc_side - scene["coords2d"][..., 0]
    flip["intrinsics"][:, 0, 2] = GRID.proc_side - scene["intrinsics"][:, 0, 2]
    flip["coords3d_rel"][..., 0] *= -1
    expected = reconstruct(scene, weak_perspective=weak).numpy() * [-1, 1, 1]
    np.testing.assert_allclose(reconstruct(flip, weak_perspective=weak), expected, atol=1e-9)


@pytest.mark.parametrize("weak", [True, False])
def test_pixels_intrinsics_and_grid_scale_together(rng, weak):
    scene = make_scene(rng, noise_px=3, dtype=np.float64)
    double = {**scene, "coords2d": 2 * scene["coords2d"]}
    double["intrinsics"] = np.diag([2.0, 2.0, 1.0]) @ scene["intrinsics"]
    expected = reconstruct(scene, weak_perspective=weak)
    found = reconstruct(double, weak_perspective=weak, grid=CropGrid(512, 64))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_points_outside_the_view_and_behind_the_camera_keep_the_3d_prediction(rng):
    scene = make_scene(rng, 1, dtype=np.float64)
    inputs = scene["normalized"], scene["coords3d_rel"], scene["mask"]
    scene["coords2d"][0, 3] = [900.0, 128.0]
    scene["coords3d_rel"][0, 11, 2] -= 30.0
    ref = absolute.reconstruct_ref_fullpersp(*inputs)
    out = reconstruct(scene, mix_3d_inside_fov=None, mix_based_on_3d=False).numpy()[0]
    translated = (scene["coords3d_rel"] + ref.numpy()[:, np.newaxis])[0]
    np.testing.assert_allclose(out[[3, 11]], translated[[3, 11]], rtol=1e-6)


def test_mix_of_one_is_the_translated_pose(rng):
    scene = make_scene(rng, noise_px=3)
    out = reconstruct(scene, mix_3d_inside_fov=np.ones((4, 1, 1), np.float32)).numpy()
    offset = out - scene["coords3d_rel"]
    np.testing.assert_allclose(offset, np.broadcast_to(offset[:, :1], offset.shape), atol=2e-6)


@pytest.mark.parametrize("weak", [True, False])
def test_a_tensor_switches_perspective_like_a_bool(rng, weak):
    scene = make_scene(rng, noise_px=3)
    by_bool = reconstruct(scene, weak_perspective=weak)
    np.testing.assert_allclose(reconstruct(scene, weak_perspective=tf.constant(weak)), by_bool)


@both_solvers
@pytest.mark.parametrize("n_valid", [0, 1, 5])
def test_solver_gradients_match_finite_differences(rng, solver, n_valid):
    scene = make_scene(rng, 1, 5, noise_px=3, dtype=np.float64)
    weights = rng.normal(size=(1, 3))
    mask = np.arange(5)[np.newaxis] < n_valid

    def weighted(normalized, rel):
        return tf.reduce_sum(solver(normalized, rel, mask) * weights)

    inputs = [scene["normalized"], scene["coords3d_rel"]]
    assert_gradients_match(weighted, inputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weak", [True, False])
def test_reconstruction_gradients_match_finite_differences(rng, weak):
    scene = make_scene(rng, 1, 5, noise_px=3, dtype=np.float64)
    weights = rng.normal(size=(1, 5, 3))

    def weighted(coords2d, rel, intrinsics, mix):
        out = absolute.reconstruct_absolute(
            coords2d,
            rel,
            intrinsics,
            grid=GRID,
            mix_3d_inside_fov=mix,
            weak_perspective=weak,
        )
        return tf.reduce_sum(out * weights)

    mix = np.array([[[0.4]]])
    inputs = [scene["coords2d"], scene["coords3d_rel"], scene["intrinsics"], mix]
    assert_gradients_match(weighted, inputs, rtol=1e-4, atol=1e-6, step=1e-5)


@pytest.mark.parametrize(("weak", "mix_based_on_3d"), [(False, True), ("tensor", False)])
def test_reconstruction_compiles_once_over_all_shapes(rng, weak, mix_based_on_3d):
    def run(coords2d, rel, intrinsics, mask, mix, flag):
        scene = {"coords2d": coords2d, "coords3d_rel": rel, "intrinsics": intrinsics}
        switch = flag if weak == "tensor" else weak
        return reconstruct(
            {**scene, "mask": mask},
            weak_perspective=switch,
            mix_3d_inside_fov=mix,
            mix_based_on_3d=mix_based_on_3d,
        )

    batches = []
    for shape in SHAPES:
        scene = make_scene(rng, *shape, noise_px=3)
        args = [scene[k] for k in ("coords2d", "coords3d_rel", "intrinsics", "mask")]
        mix = rng.uniform(size=(shape[0], 1, 1)).astype(np.float32)
        batches.append([*args, mix, np.bool_(shape == SHAPES[0])])
    assert_compiles_once(run, batches, rtol=2e-5, atol=2e-5)


@both_solvers
def test_reference_points_compile_once_over_all_shapes(rng, solver):
    batches = []
    for shape in SHAPES:
        scene = make_scene(rng, *shape, noise_px=3)
        batches.append([scene[k] for k in ("normalized", "coords3d_rel", "mask")])
    batches[0][2][0] = False  # an example without a valid point
    assert_compiles_once(solver, batches, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["_ref_weakpersp", "_ref_fullpersp"])
def test_direct_calls_of_the_solvers_trace_at_most_once(rng, name):
    solver, traced = SOLVERS["full" if "full" in name else "weak"], getattr(absolute, name).traced
    scene = make_scene(rng)
    solver(scene["normalized"], scene["coords3d_rel"])
    before = traced.experimental_get_tracing_count()
    for shape in SHAPES:
        scene = make_scene(rng, *shape)
        solver(scene["normalized"], scene["coords3d_rel"], scene["mask"])
    assert traced.experimental_get_tracing_count() == before


def test_direct_calls_trace_at_most_twice_over_all_shapes(rng):
    traced = absolute._reconstruct_absolute.traced
    before = traced.experimental_get_tracing_count()
    grid = CropGrid(255, 31)  # used nowhere else: earlier traces do not count
    for shape in ((2, 3), (3, 2), (5, 9), (1, 1), (7, 4)):
        scene = make_scene(rng, *shape)
        reconstruct(scene, grid=CropGrid(grid.proc_side, grid.stride))
    assert traced.experimental_get_tracing_count() - before <= 2


def test_an_empty_batch_or_pose_is_ordinary(rng):
    for shape in ((0, 24), (2, 0)):
        scene = make_scene(rng, *shape)
        assert reconstruct(scene).shape == (*shape, 3)
        assert np.isfinite(reconstruct(scene)).all()


def test_half_precision_heads_are_computed_in_float32(rng):
    scene = make_scene(rng)
    half = {**scene, "coords3d_rel": tf.cast(scene["coords3d_rel"], tf.float16)}
    assert reconstruct(half).dtype == tf.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords2d": np.zeros((4, 23, 2))}, r"`coords2d` has shape \(4, 23, 2\).*P = 24"),
        ({"intrinsics": np.zeros((3, 3, 3))}, "`intrinsics`.*B = 4"),
        ({"mask": np.ones((4, 24, 1), bool)}, "`point_validity_mask`"),
    ],
)
def test_shapes_that_disagree_are_named(rng, change, message):
    with pytest.raises(ValueError, match=message):
        reconstruct({**make_scene(rng), **change})


def test_bad_options_are_named(rng):
    with pytest.raises(ValueError, match="mix_3d_inside_fov"):
        reconstruct(make_scene(rng), mix_3d_inside_fov=np.ones(4))
    with pytest.raises(ValueError, match="l2_regularizer=-1"):
        absolute.reconstruct_ref_fullpersp(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)), None, -1)
