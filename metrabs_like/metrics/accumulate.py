"""Adding up metric sums over batches, on the host."""

import numpy as np


class MetricSums:
    """Accumulates named (sum, count) pairs and divides once at the end.

    Protocol: a metric's result is its total over all batches divided by its total count, so a
    small last batch weighs by its points, not as a whole batch. Sums are kept in float64.
    """

    def __init__(self):
        self._sums = {}
        self._counts = {}

    def add(self, sums_and_counts):
        """Adds one batch.

        Args:
          sums_and_counts: mapping from metric name to (sum, count), scalars or arrays of one
            shape per name; NumPy, Python numbers or eager tensors.

        Raises:
          ValueError: if a metric's shape differs from that of earlier batches.
        """
        for name, (total, count) in sums_and_counts.items():
            total = np.asarray(total, np.float64)
            count = np.asarray(count, np.float64)
            known = self._sums.get(name, np.zeros_like(total))
            if known.shape != total.shape or count.shape != total.shape:
                raise ValueError(
                    f"Metric {name!r} has sum {total.shape} and count {count.shape}, "
                    f"but earlier batches had {known.shape}; use one shape per metric."
                )
            self._sums[name] = known + total
            self._counts[name] = self._counts.get(name, np.zeros_like(count)) + count

    def merge(self, other):
        """Adds everything that another `MetricSums` holds, e.g. of another worker."""
        self.add({name: (other._sums[name], other._counts[name]) for name in other._sums})

    def result(self):
        """Divides.

        Returns:
          dict from metric name to float (or float64 array); NaN where nothing was counted.
        """
        result = {}
        for name, total in self._sums.items():
            count = self._counts[name]
            mean = np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
            result[name] = float(mean) if mean.ndim == 0 else mean
        return result

    def counts(self):
        """Returns a dict from metric name to its count so far (float or float64 array)."""
        return {k: float(v) if v.ndim == 0 else v.copy() for k, v in self._counts.items()}
