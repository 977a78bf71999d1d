"""Golden vectors of the SMPL body model: the PyTorch port's and the original's numbers.

Folder: METRABS_LIKE_GOLDENS (default tests/goldens), in it `hmr/`. Of its files only
`smpl_forward*.npz` is tested, on the model in the `smpl_model*.npz` beside it; the system itself is
not part of the library. Sizes are read from the files.
"""

import functools
import re

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import smpl
from tests.golden import npz_cases

SYSTEM = "hmr"
INPUTS = ("beta", "theta", "verts_weight", "joints_weight")

# (rtol, atol, tolerance relative to the largest entry) by kind of quantity. Both sides are float32.
TOLERANCES = {
    # Suggested with the files: 1e-6 against float64, for numbers of about 1 m. Here both err; in
    # random models ours did by 7e-7 at most.
    "points": (1e-6, 2e-6, 0.0),
    # Entries are products of up to nine rotations, minus a turned joint: some more roundings.
    "transforms": (0.0, 3e-6, 0.0),
    # Suggested with the files: sums over all vertices.
    "grad": (0.0, 0.0, 1e-5),
    "exact": (0.0, 0.0, 0.0),
}


def _files(prefix):
    return sorted(npz_cases.folder(SYSTEM).glob(f"{prefix}*.npz"))


CASES = [
    (path, key)
    for path in _files("smpl_forward")
    for key in npz_cases.load(path)
    if key not in INPUTS
]


@functools.cache
def _model(path):
    """The body model that belongs to a file, and the regressor of the 19 keypoints."""
    n_vertices = npz_cases.load(path)["verts_weight"].shape[1]
    same_name = path.with_name(path.name.replace("smpl_forward", "smpl_model"))
    for candidate in sorted(_files("smpl_model"), key=lambda other: other != same_name):
        arrays = npz_cases.load(candidate)
        if len(arrays["v_template"]) == n_vertices:
            break
    else:
        raise AssertionError(f"{path}: no smpl_model*.npz with {n_vertices} vertices is beside it")
    parents = arrays["kintree_table"][0].astype(np.int64)
    model = smpl.BodyModel(
        name="smpl",
        v_template=arrays["v_template"],
        shapedirs=arrays["shapedirs"],
        posedirs=arrays["posedirs"],
        joint_regressor=arrays["J_regressor"],
        weights=arrays["weights"],
        faces=arrays["f"],
        parents=tuple(np.where(parents < len(parents), parents, -1)),
    )
    return model, arrays["cocoplus_regressor"]


@functools.cache
def _computed(path, rotate_base):
    """All quantities of a file: name -> (ours, kind)."""
    given, (model, regressor) = npz_cases.load(path), _model(path)
    beta, theta = tf.constant(given["beta"]), tf.constant(given["theta"])
    with tf.GradientTape() as tape:
        tape.watch([beta, theta])
        pose = tf.reshape(theta, [-1, model.n_joints, 3])
        posed = smpl.pose_body(model, pose, beta, rotate_base=rotate_base)
        joints = tf.einsum("jv,bvc->bjc", regressor, posed.vertices)
        scalar = tf.reduce_sum(posed.vertices * given["verts_weight"])
        scalar += tf.reduce_sum(joints * given["joints_weight"])
    grad_beta, grad_theta = tape.gradient(scalar, [beta, theta])
    return {
        "verts": (posed.vertices, "points"),
        "joints19": (joints, "points"),
        "joints14": (joints[:, :14], "points"),
        "J_transformed": (posed.joints, "points"),
        "A": (posed.transforms, "transforms"),
        "grad_beta": (grad_beta, "grad"),
        "grad_theta": (grad_theta, "grad"),
        "Rs": (posed.rotations, "points"),
        "J_rest": (posed.rest_joints, "points"),
        "v_shaped": (posed.shaped_vertices, "points"),
        "parents_int32": (np.array(model.parents, np.int32), "exact"),
    }


def _quantity(path, key):
    """Ours for a key: `rot_` is the PyTorch port, `norot_` the original, others are in both."""
    tag, _, name = key.partition("_")
    if tag not in ("rot", "norot"):
        tag, name = "norot", key
    # "v_shaped_0_2" holds sample 2 alone
    sample = re.fullmatch(r"(v_shaped)_\d+_(\d+)", name)
    computed = _computed(path, tag == "rot")
    name = sample[1] if sample else name
    assert name in computed, f"{path}: no test knows the quantity {key!r}"
    value, kind = computed[name]
    return np.asarray(value)[int(sample[2])] if sample else np.asarray(value), kind


@pytest.mark.parametrize(
    ("path", "key"),
    CASES,
    ids=[f"golden-{path.parent.name}-{path.stem}-{key}" for path, key in CASES],
)
def test_agrees_with_the_released_code(path, key):
    expected = npz_cases.load(path)[key]
    value, kind = _quantity(path, key)
    rtol, atol, relative_to_largest = TOLERANCES[kind]
    atol += relative_to_largest * np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol, err_msg=f"{path} {key}")


@pytest.mark.parametrize("path", _files("smpl_forward"), ids=lambda path: f"golden-hmr-{path.stem}")
def test_golden_hmr_points_and_joints_alone(path):
    """The cheaper functions give the same numbers."""
    given, (model, _) = npz_cases.load(path), _model(path)
    pose = given["theta"].reshape(-1, model.n_joints, 3)
    ids = np.tile(np.arange(model.n_vertices)[:, np.newaxis], 3)
    weights = np.full(ids.shape, 1 / 3, np.float32)
    points = smpl.pose_points(model, pose, given["beta"], ids, weights)
    joints = smpl.pose_joints(model, pose, given["beta"])
    rtol, atol, _ = TOLERANCES["points"]
    np.testing.assert_allclose(points, given["norot_verts"], rtol=rtol, atol=atol)
    np.testing.assert_allclose(joints, given["norot_J_transformed"], rtol=rtol, atol=atol)


def test_golden_hmr_files_exist():
    assert _files("smpl_forward"), f"no golden files in {npz_cases.folder(SYSTEM)}"
    for path in _files("smpl_forward"):
        names = {key for other, key in CASES if other == path}
        assert names >= {"norot_verts", "norot_J_transformed", "Rs"}, f"{path}: not compared"
