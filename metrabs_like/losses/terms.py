"""Loss terms as sums and counts, so that they can be normalized over more than one batch.

Conventions: a term's mean is total / count, 0 where the count is 0; its share of the loss is weight
* mean.
"""

import typing

import tensorflow as tf


class LossTerm(typing.NamedTuple):
    """One masked-mean loss before its division.

    Attributes:
      total: scalar, sum over the valid entries.
      count: scalar float, number of valid entries.
      weight: scalar or Python float.
    """

    total: tf.Tensor
    count: tf.Tensor
    weight: tf.Tensor | float

    def mean(self, count=None):
        """Returns the unweighted mean, by this count or the term's own.

        Args:
          count: scalar that replaces the count, for example that of a whole update.

        Returns:
          Scalar, 0 where the count is 0. A non-finite total stays non-finite.
        """
        count = self.count if count is None else count
        return tf.math.divide_no_nan(self.total, tf.cast(count, self.total.dtype))


def combine(terms, counts=None):
    """Adds up weighted means.

    Args:
      terms: mapping name -> LossTerm.
      counts: mapping name -> scalar that replaces a term's count; every term must be in it. None
        takes the terms' own.

    Returns:
      (scalar sum of weight * mean, dict name -> unweighted mean). No terms: 0.

    Raises:
      ValueError: if `counts` misses a term.
    """
    missing = [] if counts is None else [name for name in terms if name not in counts]
    if missing:
        raise ValueError(
            f"`counts` has no entry for {missing}: pass one count per term, "
            f"the terms are {list(terms)}."
        )
    means = {
        name: term.mean(None if counts is None else counts[name]) for name, term in terms.items()
    }
    shares = [tf.cast(terms[name].weight, mean.dtype) * mean for name, mean in means.items()]
    return (tf.add_n(shares) if shares else tf.zeros([])), means
