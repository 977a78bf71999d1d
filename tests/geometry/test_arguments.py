"""Wrong shapes and wrong arguments: named in a direct call, refused when run, no-ops under XLA.

Every public entry point is called with its right arguments, and with each argument cut to size 1
along each axis: such an argument broadcasts, and would give a wrong number silently.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import absolute, alignment, camera, heatmap, warping
from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.losses import metric3d
from metrabs_like.losses.heatmap import expected_heatmap_count, heatmap_term
from metrabs_like.metrics import pose3d, published
from tests.geometry.scenes import GRID
from tests.losses.batches import make_batch

B, P = 4, 6
CONFIG = metric3d.Metric3DLossConfig()
STARTED = CONFIG.absloss_start_step


def make_data(rng, n_examples=B):
    """Returns every argument that the entry points below take, by name."""
    inps, preds = make_batch(rng, n_examples, P)
    relative = inps["coords3d_true"] - rng.normal(size=(n_examples, 1, 3))
    heatmaps = rng.uniform(size=(n_examples, P, 8, 8))
    box = rng.uniform(50, 100, (n_examples, 4))
    floats = {
        "coords3d_rel": relative,
        "normalized_2d": inps["coords3d_true"][..., :2] / inps["coords3d_true"][..., 2:],
        "delta_z": relative[..., 2],
        "z_offset": rng.uniform(3, 5, n_examples),
        "mix_3d_inside_fov": rng.uniform(size=(n_examples, 1, 1)),
        "log_heatmap": np.log(heatmaps / heatmaps.sum((2, 3), keepdims=True)),
        "box": box,
        "distortion_coeffs": np.zeros((n_examples, 12)),
    }
    return {**inps, **preds, **{key: np.float32(value) for key, value in floats.items()}}


def reconstruct(coords2d_true, coords3d_rel, intrinsics, mix_3d_inside_fov, point_validity):
    return absolute.reconstruct_absolute(
        coords2d_true,
        coords3d_rel,
        intrinsics,
        grid=GRID,
        mix_3d_inside_fov=mix_3d_inside_fov,
        point_validity_mask=point_validity,
    )


def loss_3d(*tensors):
    named = dict(zip(KEYS["loss_3d"], tensors, strict=True))
    return metric3d.compute_loss_with_3d_gt(named, named, CONFIG, STARTED)[1]


def loss_2d(*tensors):
    named = dict(zip(KEYS["loss_2d"], tensors, strict=True))
    return metric3d.compute_loss_with_2d_gt(named, named, CONFIG)


def counts_3d(*tensors):
    return metric3d.expected_counts_3d(dict(zip(TRUTH.split(), tensors, strict=True)), CONFIG)


def counts_2d(*tensors):
    return metric3d.expected_counts_2d(dict(zip(LABELS.split(), tensors, strict=True)), CONFIG)


TRUTH = "coords3d_true intrinsics point_validity"
POSES = "coords3d_abs coords3d_true point_validity"
LABELS = "coords2d_true point_validity"
HEADS = "coords2d_true coords3d_rel intrinsics mix_3d_inside_fov point_validity"
METRICS = "coords3d_pred coords3d_true point_validity"
REF = "normalized_2d coords3d_rel point_validity"
REF_NAMES = "normalized_2d coords3d_rel validity_mask"
ALIGN = {"scale_align": True}
# name -> (function of tensors, their names in `make_data`, their names in messages if others)
ENTRIES = {
    "reconstruct_absolute": (
        reconstruct,
        HEADS,
        "coords2d coords3d_rel intrinsics mix_3d_inside_fov point_validity_mask",
    ),
    "ref_weakpersp": (absolute.reconstruct_ref_weakpersp, REF, REF_NAMES),
    "ref_fullpersp": (absolute.reconstruct_ref_fullpersp, REF, REF_NAMES),
    "project_pose": (camera.project_pose, "coords3d_abs intrinsics", "coords3d intrinsic_matrix"),
    "back_project": (
        camera.back_project,
        "normalized_2d delta_z z_offset",
        "camcoords2d delta_z z_offset",
    ),
    "rigid_align": (
        lambda a, b, valid: alignment.rigid_align(a, b, joint_validity_mask=valid, **ALIGN),
        POSES,
        "coords_pred coords_true joint_validity_mask",
    ),
    "center_relative_pose": (
        lambda x, valid: alignment.center_relative_pose(x, valid, True),
        "coords3d_abs point_validity",
        "coords3d joint_validity_mask",
    ),
    "crop_camera": (
        lambda *args: warping.crop_camera(*args, 64, padding=0.2),
        "box intrinsics distortion_coeffs",
    ),
    "loss_3d": (loss_3d, f"{TRUTH} coords3d_abs uncert root_index"),
    "loss_2d": (loss_2d, f"{LABELS} intrinsics coords3d_abs uncert"),
    "expected_counts_3d": (counts_3d, TRUTH),
    "expected_counts_2d": (counts_2d, LABELS),
    "uncertainty_norm": (
        lambda x, uncert: metric3d.uncertainty_norm(x, uncert, CONFIG),
        "coords3d_rel uncert",
        "x uncert",
    ),
    "heatmap_term": (lambda *args: heatmap_term(*args, GRID)[:2], f"log_heatmap {LABELS}"),
    "expected_heatmap_count": (lambda *args: expected_heatmap_count(*args, GRID), LABELS),
    "mpjpe": (
        lambda *args: pose3d.mpjpe(*args[:3], root_index=args[3]),
        f"{POSES} root_index",
        f"{METRICS} root_index",
    ),
    "pa_mpjpe": (pose3d.pa_mpjpe, POSES, METRICS),
    "absolute_error": (pose3d.absolute_error, POSES, METRICS),
    "pose_sums": (pose3d.pose_sums, POSES, METRICS),
    "pixel_error": (pose3d.pixel_error, f"normalized_2d {LABELS}", f"coords2d_pred {LABELS}"),
    "per_joint": (pose3d.per_joint, "uncert point_validity", "values valid"),
    "nlf_metrics": (
        lambda *args: published.nlf_metrics(*args, proc_side=256),
        "coords3d_true coords3d_abs intrinsics coords2d_true point_validity",
    ),
    "metrabs_metrics": (
        published.metrabs_metrics,
        "coords3d_true coords3d_abs point_validity",
        "coords3d_true_mm coords3d_pred_mm mask",
    ),
}
KEYS = {entry: row[1].split() for entry, row in ENTRIES.items()}
NAMES = {
    entry: dict(zip(KEYS[entry], row[-1].split(), strict=True)) for entry, row in ENTRIES.items()
}
CASES = [(entry, key) for entry, keys in KEYS.items() for key in keys]


@functools.cache
def compiled(entry, jit_compile=False):
    """Returns the entry point as a graph that knows only coordinates, bins and coefficients."""

    def spec(array):
        shape = [None] * array.ndim
        if array.ndim == 3 and array.shape[-1] in (2, 3):
            shape[-1] = array.shape[-1]
        elif array.ndim == 4:
            shape[2:] = array.shape[2:]
        elif array.shape[-1] == 12:
            shape[-1] = 12
        return tf.TensorSpec(shape, array.dtype)

    data = make_data(np.random.default_rng(0))
    signature = [spec(data[key]) for key in KEYS[entry]]
    return tf.function(
        lambda *tensors: ENTRIES[entry][0](*tensors),
        input_signature=signature,
        jit_compile=jit_compile,
        autograph=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _forget_graphs():
    yield
    compiled.cache_clear()


def arguments_of(entry, data):
    return [tf.constant(data[key]) for key in KEYS[entry]]


def direct(entry, data):
    return ENTRIES[entry][0](*[data[key] for key in KEYS[entry]])


@pytest.mark.parametrize(("entry", "key"), CASES)
def test_an_argument_cut_to_size_one_is_refused(rng, entry, key):
    data = make_data(rng)
    name = NAMES[entry][key]
    # one argument alone has points here, so that any number of them is right
    n_axes = 1 if (entry, key) == ("project_pose", "coords3d_abs") else 2
    cuts = [axis for axis, size in enumerate(data[key].shape[:n_axes]) if size > 1]
    assert cuts
    for axis in cuts:
        wrong = {**data, key: data[key].take([0], axis)}
        with pytest.raises(ValueError, match=f"`{name}` has shape|as in `{name}` of shape"):
            direct(entry, wrong)
        if entry == "crop_camera" and axis == 1 and key == "distortion_coeffs":
            continue  # known while tracing
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            compiled(entry)(*arguments_of(entry, wrong))
        if "assertion failed" in str(error.value):  # another operation may fail at the same time
            assert f"`{name}`" in str(error.value)


@pytest.mark.parametrize(
    ("entry", "key", "axis", "message"),
    [
        ("loss_3d", "point_validity", 0, r"shape\] \[1 6\] .*\[B, P\].*\[4 6\].*`coords3d_abs`"),
        ("loss_3d", "point_validity", 1, r"shape\] \[4 1\] .*\[B, P\].*\[4 6\].*`coords3d_abs`"),
        ("loss_3d", "uncert", 1, r"shape\] \[4 1\] "),
        ("loss_3d", "intrinsics", 0, r"shape\] \[1 3 3\] .*\[4 3 3\]"),
        ("loss_3d", "root_index", 0, r"shape\] \[1\] .*\[4\]"),
        ("reconstruct_absolute", "intrinsics", 0, r"shape\] \[1 3 3\] .*\[4 3 3\]"),
        ("reconstruct_absolute", "point_validity", 0, r"shape\] \[1 6\] .*`coords3d_rel`"),
        ("reconstruct_absolute", "point_validity", 1, r"shape\] \[4 1\] "),
        ("reconstruct_absolute", "coords2d_true", 1, r"shape\] \[4 1 2\] .*\[4 6 2\]"),
        ("reconstruct_absolute", "mix_3d_inside_fov", 0, r"shape\] \[1 1 1\] .*\[4 1 1\]"),
        ("ref_fullpersp", "normalized_2d", 1, r"shape\] \[4 1 2\] "),
        ("rigid_align", "point_validity", 1, r"shape\] \[4 1\] "),
        ("absolute_error", "point_validity", 1, r"shape\] \[4 1\] "),
        ("heatmap_term", "point_validity", 0, r"shape\] \[1 6\] "),
    ],
)
def test_what_would_broadcast_silently_is_named(rng, entry, key, axis, message):
    data = make_data(rng)
    wrong = {**data, key: data[key].take([0], axis)}
    name = NAMES[entry][key]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"\[`{name}` has {message}"):
        compiled(entry)(*arguments_of(entry, wrong))


@pytest.mark.parametrize("entry", ENTRIES)
def test_unknown_dimensions_give_the_same_numbers_in_one_trace(rng, entry):
    for n_examples in (B, 2, 0):
        data = make_data(rng, n_examples)
        assert_same(compiled(entry)(*arguments_of(entry, data)), direct(entry, data))
    assert compiled(entry).experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "entry",
    ["reconstruct_absolute", "project_pose", "rigid_align", "loss_3d", "heatmap_term", "mpjpe"],
)
def test_xla_compiles_without_the_assertions(rng, entry):
    data = make_data(rng)
    function = compiled(entry, jit_compile=True)
    assert_same(function(*arguments_of(entry, data)), direct(entry, data))


def assert_same(result, expected):
    result, expected = tf.nest.flatten(result), tf.nest.flatten(expected)
    for value, wanted in zip(result, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=2e-3, atol=2e-4)


def checked_sum(patterns, specs, *, jit_compile=False):
    """Returns a graph that checks its arguments a, b, ... and adds them up."""

    def add_up(*tensors):
        pairs = zip(tensors, patterns, strict=True)
        check_shapes(**{name: pair for name, pair in zip("abc", pairs, strict=False)})
        return tf.add_n([tf.reduce_sum(tensor) for tensor in tensors])

    signature = [tf.TensorSpec(spec) for spec in specs]
    return tf.function(add_up, input_signature=signature, jit_compile=jit_compile, autograph=False)


UNKNOWN = [None, None]


@pytest.mark.parametrize(
    ("patterns", "specs", "right", "wrong", "message"),
    [
        (["B P 3", "B P"], [[*UNKNOWN, 3], UNKNOWN], [(4, 5, 3), (4, 5)], [(4, 5, 3), (4, 1)],
         r"`b` has shape\] \[4 1\] \[but \[B, P\] is expected:\] \[4 5\].*B, P as in `a`"),
        (["B P 3", "B P"], [[*UNKNOWN, 3], [None, 5]], [(4, 5, 3), (4, 5)], [(4, 6, 3), (4, 5)],
         r"`a` has shape\] \[4 6 3\].*\[4 5 3\].*P as in `b`"),
        (["... 3"], [UNKNOWN], [(4, 3)], [(4, 2)], r"`a` has shape\] \[4 2\].*\[\.\.\., 3\]"),
        (["... 3"], [None], [(2, 4, 3)], [()], r"`a` has shape\] \[\]"),
        (["B P", "B"], [None, None], [(4, 5), (4,)], [(4, 5), (4, 1)], r"`b` has shape\] \[4 1\]"),
        (["B P", "B"], [None, None], [(4, 5), (4,)], [(4,), (4,)], r"`a` has shape\] \[4\]"),
        ([""], [None], [()], [(1,)], r"`a` has shape\] \[1\]"),
    ],
)  # fmt: skip
def test_assertions_name_both_shapes(patterns, specs, right, wrong, message):
    function = checked_sum(patterns, specs)
    assert function(*map(tf.ones, right)) == sum(np.prod(shape) for shape in right)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        function(*map(tf.ones, wrong))
    under_xla = checked_sum(patterns, specs, jit_compile=True)
    assert under_xla(*map(tf.ones, right)) == sum(np.prod(shape) for shape in right)


def test_what_is_known_while_tracing_is_a_value_error():
    message = r"`b` has shape \(None, 1\).*pass P = 24, as in `a` of shape \(None, 24, 3\)"
    function = checked_sum(["B P 3", "B P"], [[None, 24, 3], [None, 1]])
    with pytest.raises(ValueError, match=message):
        function.get_concrete_function()
    for batch, n_assertions in ((None, 1), (2, 0)):  # one for what is unknown, no more
        function = checked_sum(["B P 3", "B P"], [[batch, 24, 3], [2, 24]])
        nodes = function.get_concrete_function().graph.as_graph_def().node
        assert sum(node.op == "Assert" for node in nodes) == n_assertions


def test_assertions_fire_inside_branches_and_loops():
    @tf.function(input_signature=[tf.TensorSpec(UNKNOWN), tf.TensorSpec(UNKNOWN)], autograph=False)
    def nested(a, b):
        def body(i, total):
            check_shapes(a=(a, "B P"), b=(b, "B P"))
            return i + 1, total + tf.reduce_sum(a)

        def loop():
            return tf.while_loop(lambda i, _: i < 2, body, (0, 0.0))[1]

        return tf.cond(tf.reduce_sum(a) > 0, loop, lambda: 0.0)

    assert nested(tf.ones([2, 3]), tf.ones([2, 3])) == 12
    assert nested(tf.zeros([2, 3]), tf.ones([2, 1])) == 0, "the branch that checks does not run"
    with pytest.raises(tf.errors.InvalidArgumentError, match="`b` has shape"):
        nested(tf.ones([2, 3]), tf.ones([2, 1]))


@pytest.mark.parametrize("fov", [-10, 0, 180, 200.0, np.nan, np.inf])
def test_an_impossible_field_of_view_is_refused(fov):
    message = "fov_degrees=.*pass an angle between 0 and 180 degrees"
    for value in (fov, tf.constant(fov, tf.float32)):
        with pytest.raises(ValueError, match=message):
            camera.intrinsic_matrix_from_field_of_view(value, [480, 640])
    with pytest.raises(ValueError, match="`imshape` has shape"):
        camera.intrinsic_matrix_from_field_of_view(55, [480, 640, 3])
    for jit_compile in (False, True):
        build = tf.function(
            lambda x: camera.intrinsic_matrix_from_field_of_view(x, [480, 640]),
            input_signature=[tf.TensorSpec([])],
            jit_compile=jit_compile,
            autograph=False,
        )
        np.testing.assert_allclose(build(90.0)[0, 0, 0], 320, rtol=1e-6)
        if not jit_compile:
            with pytest.raises(tf.errors.InvalidArgumentError, match="between 0 and 180.*not"):
                build(fov)


@pytest.mark.parametrize("shape", [(B, P, 1), (1, 1, 1), (3, 1, 1), (B, 1), (B,)])
def test_the_mix_is_a_scalar_or_one_per_example(rng, shape):
    data = make_data(rng)
    data["mix_3d_inside_fov"] = np.full(shape, 0.5, np.float32)
    with pytest.raises(ValueError, match=r"`mix_3d_inside_fov`.*\[B, 1, 1\]"):
        direct("reconstruct_absolute", data)
    results = []
    for right in (0.5, np.full((B, 1, 1), 0.5)):
        results.append(direct("reconstruct_absolute", {**data, "mix_3d_inside_fov": right}))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("entry", ["loss_3d", "mpjpe"])
def test_the_root_is_a_scalar_or_one_per_example(rng, entry):
    data = make_data(rng)
    with pytest.raises(ValueError, match=r"`root_index` has shape \(3,\).*B = 4"):
        direct(entry, {**data, "root_index": [0, 1, 2]})
    results = [direct(entry, {**data, "root_index": root}) for root in (2, [2] * B)]
    assert_same(*results)


def test_a_root_beyond_the_points_is_refused_when_run(rng):
    data = make_data(rng)
    signature = compiled("loss_3d").input_signature[:-1]

    def loss_around(root):
        return tf.function(
            lambda *tensors: loss_3d(*tensors, root), input_signature=signature, autograph=False
        )

    tensors = arguments_of("loss_3d", data)[:-1]
    assert_same(loss_around(P - 1)(*tensors), loss_3d(*tensors, P - 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"root_index={P}.*n_points"):
        loss_around(P)(*tensors)
    with pytest.raises(ValueError, match="root_index=-2"):
        loss_around(-2)(*tensors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heatmap.heatmap_to_metric(np.zeros((4, 2)), GRID, 2.2), r"`coords`.*\.\.\., 3\]"),
        (lambda: heatmap.heatmap_to_image(np.zeros((4, 1)), GRID), r"`coords` has shape \(4, 1\)"),
        (lambda: heatmap.decode_heatmap(np.ones((2, 3, 4)), [3]), r"axis=\[3\].*\(2, 3, 4\)"),
        (lambda: heatmap.decode_heatmap(np.ones((2, 3, 4)), [2, -1]), r"axis=\[2, -1\]"),
        (lambda: heatmap.soft_argmax(np.ones((2, 3, 4)), [-4]), r"axis=\[-4\]"),
        (lambda: camera.project(np.zeros((4, 2))), r"`points`.*\.\.\., 3\]"),
        (lambda: camera.is_within_fov(np.zeros((4, 3)), GRID), r"`imcoords`.*\.\.\., 2\]"),
        (lambda: camera.project_pose(np.zeros((4, 5, 2)), np.eye(3)), "`coords3d`"),
        (lambda: camera.distort_points(np.zeros((4, 3)), np.zeros(5)), r"`points`.*\.\.\., 2\]"),
    ],
)  # fmt: skip
def test_missing_coordinates_and_axes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
