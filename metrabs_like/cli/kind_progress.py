"""How far each annotation kind came in a training, from its `log.csv`."""

import dataclasses

import numpy as np

from metrabs_like.data.dataset_info import KINDS
from metrabs_like.viz.curves import read_log

_SHARE = 0.1  # of the log's rows that are the start, and the end
_ERROR = "error_px"


@dataclasses.dataclass(frozen=True)
class KindProgress:
    """A kind's means over the first and the last tenth of the log.

    Attributes:
      name: of the kind.
      loss: (start, end), the sum of the kind's terms as they are logged, without their weights.
      error_px: (start, end), mean distance of the projections from the labels, crop px.
      terms: names of the summed terms.
    """

    name: str
    loss: tuple[float, float]
    error_px: tuple[float, float]
    terms: tuple[str, ...]

    @property
    def fell(self) -> bool:
        """Whether the loss at the end is smaller than at the start."""
        return self.loss[1] < self.loss[0]


def measure(log_csv: str) -> list[KindProgress]:
    """Compares the end of a training with its start.

    Args:
      log_csv: log of a training, with columns `KIND/TERM`.

    Returns:
      One entry for each annotation kind in the log.

    Raises:
      ValueError: if there is no column `step`.
      OSError: if the file cannot be read.
    """
    columns = {name: _ends(values) for name, (_, values) in read_log(log_csv).items()}
    found = []
    for kind in KINDS:
        names = [name.partition("/")[2] for name in columns if name.startswith(f"{kind}/")]
        terms = tuple(name for name in names if name != _ERROR)
        if terms:
            parts = np.array([columns[f"{kind}/{term}"] for term in terms])
            loss = tuple(parts.sum(axis=0).tolist())
            found.append(KindProgress(kind, loss, columns[f"{kind}/{_ERROR}"], terms))
    return found


def table(progress: list[KindProgress]) -> str:
    """Returns a table with a verdict in words for each kind."""
    lines = ["kind      loss: start      end   error [px]: start     end"]
    for kind in progress:
        verdict = "the loss fell" if kind.fell else "THE LOSS DID NOT FALL"
        lines.append(
            f"{kind.name:8}{kind.loss[0]:13.4f}{kind.loss[1]:9.4f}"
            f"{kind.error_px[0]:20.2f}{kind.error_px[1]:8.2f}   {verdict}"
        )
    summed = "; ".join(f"{kind.name}: {' + '.join(kind.terms)}" for kind in progress)
    lines.append("start, end: means of the first and the last tenth of the log")
    lines.append(f"loss: unweighted sum of the kind's terms ({summed})")
    return "\n".join(lines)


def _ends(values):
    """Means of the first and the last tenth."""
    n = max(1, round(_SHARE * len(values)))
    return float(np.mean(values[:n])), float(np.mean(values[-n:]))
