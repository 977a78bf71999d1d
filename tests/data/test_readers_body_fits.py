import pickle

import numpy as np
import pytest

from metrabs_like.data import body_models
from metrabs_like.data.readers import body_fits


@pytest.fixture
def load(tmp_path):
    """Returns a function that writes a fit and reads it."""

    def write_and_load(content):
        path = tmp_path / "fit.pkl"
        path.write_bytes(pickle.dumps(content, 2))
        return body_fits.load_fit(str(path))

    return write_and_load


@pytest.mark.parametrize("n_values", [66, 72, 156, 165])
def test_poses_of_all_body_models(load, rng, n_values):
    pose, betas, shift = rng.normal(size=n_values), rng.normal(size=10), rng.normal(size=3)
    fit = load({"pose": pose, "betas": betas, "trans": shift})
    np.testing.assert_array_equal(fit.pose_rotvecs[:22].ravel(), pose[:66])
    hands = fit.pose_rotvecs[22:].ravel()
    np.testing.assert_array_equal(hands, pose[66:72] if n_values == 72 else np.zeros(6))
    np.testing.assert_array_equal(fit.shape_betas, betas)
    np.testing.assert_array_equal(fit.translation, shift)


@pytest.mark.parametrize("root", ["global_orient", "root_pose"])
@pytest.mark.parametrize("n_body", [21, 23])
def test_root_and_body_apart(load, rng, root, n_body):
    rotvecs = rng.normal(size=(1 + n_body, 3)).astype(np.float32)
    fit = load(
        {
            root: rotvecs[np.newaxis, 0],
            "body_pose": rotvecs[np.newaxis, 1:],
            "betas": np.ones((1, 16)),
            "transl": np.ones((1, 3)),
        }
    )
    np.testing.assert_array_equal(fit.pose_rotvecs[: 1 + n_body], rotvecs)
    assert not fit.pose_rotvecs[1 + n_body :].any()
    assert fit.shape_betas.shape == (10,) and fit.pose_rotvecs.dtype == np.float64


def test_few_betas_are_the_first(load):
    fit = load({"pose": np.zeros(72), "betas": np.array([1.0, 2]), "trans": np.zeros(3)})
    np.testing.assert_array_equal(fit.shape_betas, [1, 2, *[0] * 8])


def test_a_missing_file_is_none(tmp_path):
    assert body_fits.load_fit(str(tmp_path / "absent.pkl")) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list instead of a dict"),
        ({"pose": np.zeros(72), "trans": np.zeros(3)}, "its betas .* is missing"),
        ({"pose": np.zeros(72), "betas": np.zeros(10)}, "its translation .* is missing"),
        ({"body_pose": np.zeros(69), "betas": np.zeros(10), "trans": np.zeros(3)}, "its pose"),
        ({"pose": np.zeros(216), "betas": np.zeros(10), "trans": np.zeros(3)}, "216 numbers"),
        ({"pose": np.full(72, np.nan)}, "'pose' is no array of finite numbers"),
        ({"pose": np.array(["a"])}, "'pose' is no array of finite numbers"),
    ],
)
def test_other_contents_are_refused(load, content, reason):
    with pytest.raises(ValueError, match=reason):
        load(content)


def test_described_models():
    assert body_fits.described_model("smpl") == {"name": "smpl", "n_vertices": 6890}
    procedural = body_models.get_body_model("procedural")
    assert body_fits.described_model("procedural")["n_vertices"] == procedural.n_vertices
    with pytest.raises(ValueError, match="body_model = 'x' is unknown"):
        body_fits.described_model("x")
