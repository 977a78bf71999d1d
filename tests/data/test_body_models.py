"""Files of body models: pickles and archives as published, and what is refused."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse

from metrabs_like.data import body_models
from metrabs_like.data.synthetic.body import PARENTS
from metrabs_like.data.synthetic.body_model import procedural_body
from metrabs_like.geometry import smpl

N_VERTICES = 30


def smpl_arrays(rng, n_betas=12, parents=PARENTS):
    """Random arrays with the names, types and shapes of an SMPL release."""
    n_joints = len(parents)
    root = [2**32 - 1, *parents[1:]]
    return {
        "v_template": rng.normal(size=(N_VERTICES, 3)),
        "shapedirs": rng.normal(size=(N_VERTICES, 3, n_betas)),
        "posedirs": rng.normal(size=(N_VERTICES, 3, 9 * (n_joints - 1))),
        "J_regressor": rng.dirichlet(np.ones(N_VERTICES), n_joints),
        "weights": rng.dirichlet(np.ones(n_joints), N_VERTICES),
        "kintree_table": np.array([root, range(n_joints)], np.uint32),
        "f": rng.integers(0, N_VERTICES, (50, 3)).astype(np.uint32),
    }


@pytest.fixture
def fake_chumpy(monkeypatch):
    """A class that is pickled under the name of chumpy's array."""

    class Ch:
        def __init__(self, x):
            self.x = x

    module = types.ModuleType("chumpy.ch")
    module.Ch, Ch.__module__, Ch.__qualname__ = Ch, "chumpy.ch", "Ch"
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return Ch


def assert_holds(model, arrays, n_betas=10):
    np.testing.assert_allclose(model.v_template, arrays["v_template"], rtol=1e-6)
    np.testing.assert_allclose(model.shapedirs, arrays["shapedirs"][..., :n_betas], rtol=1e-6)
    np.testing.assert_allclose(model.joint_regressor, arrays["J_regressor"], rtol=1e-6)
    np.testing.assert_allclose(model.weights, arrays["weights"], rtol=1e-6)
    np.testing.assert_array_equal(model.faces, arrays["f"])
    np.testing.assert_array_equal(model.canonical_pose_rotvecs, 0)
    assert model.parents == PARENTS and model.name == "smpl"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_as_published(rng, tmp_path, fake_chumpy, protocol):
    """Chumpy arrays, a sparse regressor, the root's parent 2^32 - 1, entries of no interest."""
    arrays = smpl_arrays(rng)
    content = arrays | {
        "shapedirs": fake_chumpy(arrays["shapedirs"]),
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "bs_style": "lbs",
        "J": np.zeros((24, 3)),
    }
    path = tmp_path / "basicModel_f.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    model = body_models.load_body_model(str(path))
    assert_holds(model, arrays)
    np.testing.assert_allclose(model.posedirs, arrays["posedirs"], rtol=1e-6)
    posed = smpl.pose_body(model, np.zeros((1, 24, 3), np.float32), np.zeros((1, 10)))
    np.testing.assert_allclose(posed.vertices[0], arrays["v_template"], atol=1e-5)


def test_archive_with_more_betas_and_without_pose_blend(rng, tmp_path):
    arrays = smpl_arrays(rng, n_betas=400)
    del arrays["posedirs"]
    path = tmp_path / "model.npz"
    # SMPL-X archives hold dicts beside the arrays; nobody reads them
    np.savez(path, **arrays, part2num=np.array({"Global": 0}, dtype=object))
    model = body_models.load_body_model(str(path))
    assert_holds(model, arrays)
    assert model.posedirs.shape == (N_VERTICES, 3, 0)
    assert body_models.load_body_model(str(path), n_betas=16).n_betas == 16


@pytest.mark.parametrize("n_joints, name", [(52, "smplh"), (55, "smplx"), (7, "dog")])
def test_names_follow_the_number_of_joints(rng, tmp_path, n_joints, name):
    arrays = smpl_arrays(rng, parents=(-1, *range(n_joints - 1)))
    path = tmp_path / "dog.npz"
    np.savez(path, **arrays)
    model = body_models.load_body_model(str(path))
    assert (model.name, model.n_joints) == (name, n_joints)


@pytest.mark.parametrize("suffix", ["npz", "pkl"])
@pytest.mark.parametrize(
    "key, change, message",
    [
        ("weights", None, "has no 'weights' .it has J_regressor, f,"),
        ("kintree_table", None, "has no 'kintree_table'"),
        ("v_template", lambda x: x[:, :2], "'v_template' has shape"),
        ("v_template", lambda x: x[:-1], "'shapedirs' has shape"),
        ("J_regressor", lambda x: x.T, r"'J_regressor' has shape \(30, 24\), \[24, 30\] fits"),
        ("posedirs", lambda x: x[..., 1:], "'posedirs' has shape"),
        ("weights", lambda x: x * np.nan, "'weights' is no array of finite numbers"),
        ("f", lambda x: x + 100, "faces has vertex numbers"),
        ("kintree_table", lambda x: x[:, ::-1], "numbers its joints"),
        ("kintree_table", lambda x: x[0], "'kintree_table' has shape"),
        ("shapedirs", lambda x: np.array(["a"]), "'shapedirs' is no array of finite numbers"),
    ],
)
def test_what_does_not_fit_is_named(rng, tmp_path, suffix, key, change, message):
    arrays = smpl_arrays(rng)
    changed = {} if change is None else {key: change(arrays.pop(key))}
    arrays.pop(key, None)
    path = tmp_path / f"model.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays, **changed)
    else:
        path.write_bytes(pickle.dumps({**arrays, **changed}))
    with pytest.raises(ValueError, match=message) as error:
        body_models.load_body_model(str(path))
    assert str(path) in str(error.value)


def test_objects_in_an_array_are_refused(rng, tmp_path):
    arrays = smpl_arrays(rng)
    arrays["weights"] = arrays["weights"].astype(object)
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(ValueError, match="Python objects.* in 'weights.npy'"):
        body_models.load_body_model(str(tmp_path / "model.npz"))


def test_other_files_are_refused(tmp_path):
    list_file, text_file = tmp_path / "list.pkl", tmp_path / "text.npz"
    list_file.write_bytes(pickle.dumps([1, 2]))
    text_file.write_text("no archive")
    with pytest.raises(ValueError, match="holds a list instead of a dict"):
        body_models.load_body_model(str(list_file))
    with pytest.raises(ValueError, match="no whole npz archive"):
        body_models.load_body_model(str(text_file))
    for name in ("absent.npz", "absent.pkl"):
        with pytest.raises(ValueError, match="does not exist"):
            body_models.load_body_model(str(tmp_path / name))
    with pytest.raises(ValueError, match="'smpl' is no body model and no file"):
        body_models.get_body_model("smpl")


def test_a_model_is_loaded_once_until_its_file_changes(rng, tmp_path):
    assert body_models.get_body_model("procedural") is procedural_body()
    path = tmp_path / "model.npz"
    np.savez(path, **smpl_arrays(rng))
    first = body_models.get_body_model(str(path))
    assert body_models.get_body_model(str(path)) is first
    np.savez(path, **smpl_arrays(rng))
    os.utime(path, ns=(1, 1))
    second = body_models.get_body_model(str(path))
    assert second is not first
    assert (second.v_template != first.v_template).any()


def test_the_sum_of_an_archive_is_limited(rng, tmp_path, monkeypatch):
    """Only what is read counts; what is all zeros may not be large."""
    arrays = smpl_arrays(rng)
    arrays["posedirs"] *= 0  # so the archive is smaller than the arrays
    path = str(tmp_path / "model.npz")
    np.savez_compressed(path, **arrays, other=np.zeros(2**22))
    n_bytes = sum(array.nbytes + 128 for array in arrays.values())
    monkeypatch.setattr(body_models, "MAX_ARRAY_BYTES", n_bytes)
    body_models.load_body_model(path)
    monkeypatch.setattr(body_models, "MAX_ARRAY_BYTES", n_bytes - 1)
    with pytest.raises(ValueError, match=f"declares {n_bytes} bytes of arrays"):
        body_models.load_body_model(path)
    monkeypatch.undo()
    np.savez_compressed(path, **arrays | {"shapedirs": np.zeros((2**20, 3, 1))})
    with pytest.raises(ValueError, match="in 'shapedirs.npy', of which"):
        body_models.load_body_model(path)
