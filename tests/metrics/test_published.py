"""The released codes' metric sets against an independent NumPy evaluation of their definitions."""

import numpy as np
import pytest

from metrabs_like.metrics import published


def numpy_procrustes_errors(pred, true):
    if len(pred) < 2:
        return np.zeros(len(pred))
    y, x = pred - pred.mean(0), true - true.mean(0)
    u, s, vt = np.linalg.svd(y.T @ x)
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, 2] *= sign
    scale = (s[0] + s[1] + sign * s[2]) / np.sum(y**2)
    return np.linalg.norm(scale * y @ u @ vt - x, axis=-1)


def make_scene(rng, n_points=9):
    true = rng.normal(size=(3, n_points, 3)) * [0.4, 0.6, 0.2] + [0, 0, 3]
    pred = true + rng.normal(size=true.shape) * 0.08 + [0, 0, 0.1]
    intrinsics = np.array([[300.0, 0, 128], [0, 310, 120], [0, 0, 1]]) * np.ones((3, 1, 1))
    valid = rng.uniform(size=(3, n_points)) < 0.8
    valid[:, :3] = True
    return true, pred, intrinsics, valid


def project(points, intrinsics):
    homogeneous = np.einsum("bij,bpj->bpi", intrinsics, points)
    return homogeneous[..., :2] / homogeneous[..., 2:]


def test_nlf_metrics(rng):
    true, pred, intrinsics, valid = make_scene(rng)
    valid[2] = np.arange(9) == 4
    coords2d_true = project(true, intrinsics) + 2.0
    result = published.nlf_metrics(true, pred, intrinsics, coords2d_true, valid, proc_side=128)
    relative, aligned = [], []
    for i in range(3):
        p, t = pred[i, valid[i]], true[i, valid[i]]
        relative.append(np.linalg.norm((p - p.mean(0)) - (t - t.mean(0)), axis=-1))
        aligned.append(numpy_procrustes_errors(p, t))
    relative, aligned = np.concatenate(relative), np.concatenate(aligned)
    image_pred, image_true = project(pred, intrinsics), project(true, intrinsics)
    expected = {
        "mean_error_abs": 1000 * np.linalg.norm(pred - true, axis=-1)[valid].mean(),
        "mean_error": 1000 * relative.mean(),
        "auc": 100 * np.maximum(0, 1 - relative / 0.1).mean(),
        "pck": 100 * (relative <= 0.1).mean(),
        "mean_error_procrustes": 1000 * aligned.mean(),
        "mean_error_px": 2 * np.linalg.norm(image_pred - image_true, axis=-1)[valid].mean(),
        "mean_error_px_2d": 2 * np.linalg.norm(image_pred - coords2d_true, axis=-1)[valid].mean(),
    }
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert float(result[name]) == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("mean_relative", [False, True])
def test_metrabs_metrics(mean_relative, rng):
    true, pred, intrinsics, valid = make_scene(rng)
    true, pred = 1000 * true, 1000 * pred
    image_true, image_pred = project(true, intrinsics), project(pred, intrinsics)
    result = published.metrabs_metrics(
        true, pred, valid, image_true, image_pred, mean_relative=mean_relative
    )
    relative, aligned = [], []
    for i in range(3):
        p, t = pred[i, valid[i]], true[i, valid[i]]
        centers = (p.mean(0), t.mean(0)) if mean_relative else (pred[i, -1], true[i, -1])
        relative.append(np.linalg.norm((p - centers[0]) - (t - centers[1]), axis=-1))
        aligned.append(numpy_procrustes_errors(p, t))
    relative, aligned = np.concatenate(relative), np.concatenate(aligned)
    expected = {
        "mean_error_abs": np.linalg.norm(pred - true, axis=-1)[valid].mean(),
        "mean_error": relative.mean(),
        "mean_auc": np.maximum(0, 1 - relative / 150).mean(),
        "mean_pck": (relative <= 150).mean(),
        "mean_error_procrustes": aligned.mean(),
        "mean_error_2d": np.linalg.norm(image_pred - image_true, axis=-1)[valid].mean(),
    }
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert float(result[name]) == pytest.approx(value, rel=1e-5), name


def test_nothing_valid_is_zero_and_2d_is_optional(rng):
    true, pred, intrinsics, valid = make_scene(rng)
    none = np.zeros_like(valid)
    nlf = published.nlf_metrics(true, pred, intrinsics, None, none, proc_side=256)
    assert "mean_error_px_2d" not in nlf
    metrabs = published.metrabs_metrics(true, pred, none)
    assert "mean_error_2d" not in metrabs
    assert all(float(v) == 0 for v in (*nlf.values(), *metrabs.values()))


def test_nan_at_a_valid_point_shows(rng):
    true, pred, intrinsics, valid = make_scene(rng)
    pred[0, 0] = np.nan
    result = published.nlf_metrics(true, pred, intrinsics, None, valid, proc_side=256)
    assert all(np.isnan(float(v)) for v in result.values())
