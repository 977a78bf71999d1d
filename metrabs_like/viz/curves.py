"""Training curves from a run's `log.csv`."""

import csv

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_MAX_PANELS = 9


def save_training_curves(path, log_csv, *, columns=None, title=""):
    """Plots columns of a training log over steps, one panel each.

    Thin line: the logged values; thick line: their running median (a twentieth of the log wide).

    Args:
      path: PNG file to write; an existing one is replaced.
      log_csv: CSV file with a header and a column `step`. Empty, non-numeric and non-finite
        cells are left out. Lines of a run that was resumed may repeat steps: the last one counts.
      columns: names to plot, or None for the first nine numeric ones that change.
      title: text above the picture.

    Returns:
      Tuple of the names plotted, possibly empty.

    Raises:
      ValueError: if there is no column `step`, or a named column is missing.
      OSError: if a file cannot be read or written.
    """
    series = read_log(log_csv)
    if columns is None:
        columns = [k for k, (_, values) in series.items() if np.ptp(values) > 0][:_MAX_PANELS]
    missing = [name for name in columns if name not in series]
    if missing:
        raise ValueError(f"{log_csv} has no values in {missing}; it has {sorted(series)}.")
    n_columns = min(3, max(1, len(columns)))
    n_rows = max(1, -(-len(columns) // n_columns))
    figure = Figure(figsize=(4.2 * n_columns, 3.0 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for i, name in enumerate(columns):
        axes = figure.add_subplot(n_rows, n_columns, i + 1)
        steps, values = series[name]
        axes.plot(steps, values, linewidth=0.6, alpha=0.5, color="tab:gray")
        axes.plot(steps, _running_median(values), linewidth=1.6, color="tab:blue")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=110, facecolor="white")
    return tuple(columns)


def read_log(log_csv):
    """Reads the numeric columns of a training log.

    Args:
      log_csv: as in `save_training_curves`.

    Returns:
      dict name -> (steps float64 `[n]` ascending, values float64 `[n]`), without `step` itself
      and without columns that hold no number.

    Raises:
      ValueError: if there is no column `step`.
      OSError: if the file cannot be read.
    """
    with open(log_csv, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "step" not in (reader.fieldnames or ()):
            raise ValueError(f"{log_csv} has no column 'step'; its header is {reader.fieldnames}.")
        by_step = {}
        for row in reader:
            step = _to_number(row["step"])
            if step is not None:
                by_step[step] = row
        names = [name for name in reader.fieldnames if name != "step"]
    result = {}
    for name in names:
        pairs = [(step, _to_number(by_step[step][name])) for step in sorted(by_step)]
        pairs = [(step, value) for step, value in pairs if value is not None]
        if pairs:
            steps, values = np.array(pairs, np.float64).T
            result[name] = (steps, values)
    return result


def _running_median(values):
    """Smooths a curve by the median of a window around each value, shorter at the ends."""
    half = max(1, len(values) // 40)
    return [np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def _to_number(text):
    """Returns the finite number in a cell, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None
