"""Whether predicted uncertainty ranks the actual errors."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_N_GROUPS = 10
_MAX_DOTS = 4000


def spearman_correlation(x, y):
    """Correlates the ranks of two samples; equal values share their mean rank.

    Args:
      x: `[N]`, finite.
      y: `[N]`, finite.

    Returns:
      float in -1..1; NaN with fewer than two values or where one sample is constant.

    Raises:
      ValueError: if the lengths differ.
    """
    x, y = np.ravel(x), np.ravel(y)
    if x.shape != y.shape:
        raise ValueError(f"Samples must have one length, got {len(x)} and {len(y)}.")
    if len(x) < 2:
        return float("nan")
    rank_x, rank_y = _ranks(x), _ranks(y)
    spread = rank_x.std() * rank_y.std()
    if spread == 0:
        return float("nan")
    return float(np.mean((rank_x - rank_x.mean()) * (rank_y - rank_y.mean())) / spread)


def save_error_vs_uncertainty(path, errors_mm, uncerts_mm, *, title=""):
    """Plots errors against predicted uncertainties and prints the rank correlation on the plot.

    The dots are points (a fixed random selection of at most 4000, seed 0); the line is the
    median error of ten groups of equal size by predicted uncertainty, with its quartiles. A
    rising line means that the uncertainty ranks.

    Args:
      path: PNG file to write; an existing one is replaced.
      errors_mm: `[...]`, mm, of valid points.
      uncerts_mm: same shape, mm. Pairs with a non-finite value are left out and counted in the
        picture's title.
      title: text above the plot.

    Returns:
      float, Spearman's rank correlation over all finite pairs; NaN if it is undefined.

    Raises:
      ValueError: if the sizes differ.
      OSError: if the file cannot be written.
    """
    errors = np.asarray(errors_mm, np.float64).ravel()
    uncerts = np.asarray(uncerts_mm, np.float64).ravel()
    if errors.shape != uncerts.shape:
        raise ValueError(
            f"errors_mm and uncerts_mm must have one size, got {errors.size} and {uncerts.size}."
        )
    keep = np.isfinite(errors) & np.isfinite(uncerts)
    n_left_out = int(np.sum(~keep))
    errors, uncerts = errors[keep], uncerts[keep]
    rho = spearman_correlation(uncerts, errors)
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left_out = f", {n_left_out} non-finite left out" if n_left_out else ""
    note = f"Spearman rank correlation {rho:.2f}, {len(errors)} points{left_out}"
    axes.set_title(f"{title}\n{note}" if title else note, fontsize=10)
    axes.set_xlabel("predicted uncertainty [mm]")
    axes.set_ylabel("error [mm]")
    if len(errors):
        _plot_pairs(axes, uncerts, errors)
    figure.savefig(path, format="png", dpi=110, facecolor="white")
    return rho


def _plot_pairs(axes, uncerts, errors):
    """Draws dots and the medians of groups of equal size."""
    shown = np.random.default_rng(0).permutation(len(errors))[:_MAX_DOTS]
    axes.scatter(uncerts[shown], errors[shown], s=4, alpha=0.25, linewidths=0, color="tab:gray")
    groups = np.array_split(np.argsort(uncerts, kind="stable"), min(_N_GROUPS, len(errors)))
    centers = [np.median(uncerts[g]) for g in groups]
    quartiles = np.array([np.percentile(errors[g], (25, 50, 75)) for g in groups])
    low, middle, high = quartiles.T
    axes.errorbar(
        centers,
        middle,
        yerr=np.stack([middle - low, high - middle]),
        color="tab:blue",
        marker="o",
        capsize=3,
        label="median and quartiles, groups of equal size",
    )
    # a few wild points must not squeeze the rest into a corner
    axes.set_xlim(0, 1.05 * np.percentile(uncerts, 99.5) or 1)
    axes.set_ylim(0, 1.05 * np.percentile(errors, 99.5) or 1)
    axes.legend(loc="upper left", fontsize=8)


def _ranks(x):
    """Ranks values from 0; equal values get their mean rank."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2.0)[inverse]
