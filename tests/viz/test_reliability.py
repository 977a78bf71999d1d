"""Rank correlation of uncertainty and error, and its plot."""

import cv2
import numpy as np
import pytest

from metrabs_like.viz import reliability


def test_spearman_by_hand():
    assert reliability.spearman_correlation([1, 2, 3, 4], [10, 20, 30, 1e9]) == pytest.approx(1)
    assert reliability.spearman_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # ranks 0 1 2 3 4 against 1 0 3 2 4: 1 - 6 * 4 / (5 * 24)
    rho = reliability.spearman_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert rho == pytest.approx(0.8)
    # with a tie: ranks 0.5 0.5 2 against 0 1 2
    rho = reliability.spearman_correlation([7, 7, 9], [1, 2, 3])
    assert rho == pytest.approx(1.5 / np.sqrt(1.5 * 2))


def test_spearman_undefined_and_mismatching():
    assert np.isnan(reliability.spearman_correlation([], []))
    assert np.isnan(reliability.spearman_correlation([1], [2]))
    assert np.isnan(reliability.spearman_correlation([1, 1, 1], [1, 2, 3]))
    with pytest.raises(ValueError, match="one length"):
        reliability.spearman_correlation([1, 2], [1])


def test_spearman_ignores_monotonic_changes(rng):
    x, y = rng.normal(size=(2, 200))
    expected = reliability.spearman_correlation(x, y)
    assert reliability.spearman_correlation(np.exp(x), y**3) == pytest.approx(expected)
    assert reliability.spearman_correlation(y, x) == pytest.approx(expected)


def test_plot_returns_the_correlation_of_finite_pairs(tmp_path, rng):
    uncerts = rng.gamma(2, 20, size=(50, 8))
    errors = uncerts * np.abs(rng.normal(size=uncerts.shape))
    expected = reliability.spearman_correlation(uncerts, errors)
    padded = [np.append(x, [np.nan, 5]) for x in (errors, uncerts)]
    padded[1][-1] = np.inf
    path = tmp_path / "reliability.png"
    rho = reliability.save_error_vs_uncertainty(path, *padded, title="held out")
    assert 0.2 < rho == pytest.approx(expected)
    assert cv2.imread(str(path)).std() > 5


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_points_are_ordinary(n, tmp_path):
    path = tmp_path / "reliability.png"
    rho = reliability.save_error_vs_uncertainty(path, np.zeros(n), np.zeros(n))
    assert np.isnan(rho)
    assert cv2.imread(str(path)) is not None


def test_mismatching_sizes_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="got 3 and 2"):
        reliability.save_error_vs_uncertainty(tmp_path / "x.png", np.ones(3), np.ones(2))
    with pytest.raises(OSError, match="missing"):
        reliability.save_error_vs_uncertainty(tmp_path / "missing" / "x.png", [1.0], [1.0])
