"""Float64 metrics: the measure where NaN or a single valid point defeats the released code.

NaN is not treated: what is not finite at a valid point shows.
"""

import numpy as np

from tests.golden import nonfinite


def nlf_metrics(case):
    """Returns the metrics of `published.nlf_metrics`."""
    true, pred, true2d, mask = _points(
        case, "in_coords3d_true", "in_coords3d_abs", "in_coords2d_true"
    )
    intrinsics = case["in_intrinsics"].astype(np.float64)
    errors = _distances(_centred(pred, mask), _centred(true, mask), mask)
    pred2d, image_true = _project(pred, intrinsics), _project(true, intrinsics)
    to_256 = 256 / case["flag_proc_side"]
    return {
        "mean_error_abs": 1000 * _mean(_distances(pred, true, mask)),
        "mean_error": 1000 * _mean(errors),
        "auc": 100 * _mean(_auc(errors, 0.1)),
        "pck": 100 * _mean(_pck(errors, 0.1)),
        "mean_error_procrustes": 1000 * _mean(procrustes_errors(pred, true, mask)),
        "mean_error_px": to_256 * _mean(_distances(pred2d, image_true, mask)),
        "mean_error_px_2d": to_256 * _mean(_distances(pred2d, true2d, mask)),
    }


def metrabs_metrics(case):
    """Returns the metrics of `published.metrabs_metrics`."""
    true, pred, true2d, pred2d, mask = _points(
        case, "in_coords3d_true", "in_coords3d_pred", "in_coords2d_true", "in_coords2d_pred"
    )
    roots = [
        _centred(x, mask) if case["flag_mean_relative"] else x - x[:, -1:] for x in (pred, true)
    ]
    errors = _distances(*roots, mask)
    return {
        "mean_error": _mean(errors),
        "mean_error_abs": _mean(_distances(pred, true, mask)),
        "mean_error_2d": _mean(_distances(pred2d, true2d, mask)),
        "mean_error_procrustes": _mean(procrustes_errors(pred, true, mask)),
        "mean_auc": _mean(_auc(errors, 150.0)),
        "mean_pck": _mean(_pck(errors, 150.0)),
    }


def procrustes_errors(pred, true, mask):
    """Returns the errors after similarity alignment; one valid point counts as aligned."""
    errors = [np.zeros(0)]
    for x, y, valid in zip(pred, true, mask, strict=True):
        if valid.sum() < 2 or not np.isfinite(x[valid] + y[valid]).all():
            errors.append(np.linalg.norm(0 * (x[valid] + y[valid]), axis=1))
            continue
        x, y = x[valid] - x[valid].mean(0), y[valid] - y[valid].mean(0)
        u, s, vt = np.linalg.svd(x.T @ y)
        sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        aligned = x @ (u * sign @ vt) * (s * sign).sum() / np.sum(x * x)
        errors.append(np.linalg.norm(aligned - y, axis=1))
    return np.concatenate(errors)


def _points(case, *keys):
    """Returns the case's points in float64, and the mask."""
    return *(case[key].astype(np.float64) for key in keys), nonfinite.validity(case)


def _centred(x, mask):
    """Subtracts the mean of each example's valid points."""
    mask = mask[..., np.newaxis]
    count = np.maximum(mask.sum(1, keepdims=True), 1)
    return x - np.where(mask, x, 0).sum(1, keepdims=True) / count


def _distances(x, y, mask):
    """Returns the distances of all valid points."""
    return np.linalg.norm((x - y)[mask], axis=-1)


def _project(points, intrinsics):
    """Returns pixels, the depth clamped to 1 mm."""
    normalized = points / np.maximum(points[..., 2:], 0.001)
    return np.einsum("bpc,bic->bpi", normalized, intrinsics[:, :2])


def _mean(x):
    """Returns the mean, 0 of nothing."""
    return x.sum() / max(x.size, 1)


def _pck(errors, threshold):
    return np.where(np.isnan(errors), errors, errors <= threshold)


def _auc(errors, upper):
    return np.maximum(0, 1 - np.maximum(0, errors) / upper)
