"""Error norms weighted by a predicted uncertainty.

Conventions: the uncertainty is the scale of a Laplace-like density of the error vector, in the unit
of the error.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.losses.robust import charbonnier_of_square

# Smoothing of the plain norm where nothing predicts an uncertainty, m (released code).
EPSILON_WITHOUT_UNCERT = 0.02


def uncertainty_norm(x, uncert, config):
    """Computes the error norm that the losses average (the original's `my_norm`).

    With uncertainty u: (charbonnier(x / u, charb_eps) + f log u) * stop_gradient(u)^beta_nll, where
    f is sqrt(D), or 1/sqrt(D) with `fix_uncert_factor`. Without `nll_loss`:
    charbonnier(x, charb_eps). Without u: charbonnier(x, 0.02).

    Args:
      x: float `[..., D]`, m, error vectors.
      uncert: `[...]`, m, positive; or None.
      config: Metric3DLossConfig.

    Returns:
      `[...]`; may be negative.

    Raises:
      ValueError: if the shape of `uncert` is not that of `x` without its last dimension;
        `tf.errors.InvalidArgumentError` when run for sizes that are unknown while tracing.

    Gradient: to both, except through the beta factor; at x = 0 that of the length is 0. Uncertainty
    0 gives non-finite values.

    References:
      Released code of Neural Localizer Fields; Seitzer et al., ICLR 2022 (beta-NLL).
    """
    x = as_float(x)
    uncert = None if uncert is None else as_float(uncert, x)
    if x.shape.rank is not None:
        leading = " ".join(f"N{i}" for i in range(x.shape.rank - 1))
        check_shapes(x=(x, f"{leading} D"), uncert=(uncert, leading))
    if uncert is None or not config.nll_loss:
        return norm_of_square(tf.reduce_sum(tf.square(x), -1), uncert, tf.shape(x)[-1], config)
    scaled = tf.reduce_sum(tf.square(x / uncert[..., tf.newaxis]), -1)
    return _likelihood(scaled, uncert, tf.shape(x)[-1], config)


def norm_of_square(square, uncert, n_dims, config):
    """Computes `uncertainty_norm` from squared error norms.

    Args:
      square: float `[...]`, m^2, squared norm of the error vectors.
      uncert: `[...]`, m, positive; or None.
      n_dims: D, number of components of the vectors.
      config: Metric3DLossConfig.

    Returns:
      `[...]`, as `uncertainty_norm`. Gradient: to the square and the uncertainty.
    """
    if uncert is None:
        return charbonnier_of_square(square, n_dims, EPSILON_WITHOUT_UNCERT)
    if not config.nll_loss:
        return charbonnier_of_square(square, n_dims, config.charb_eps)
    # What overflows must not reach the division: 0 * Inf in its backward pass is NaN.
    overflows = tf.math.is_inf(tf.stop_gradient(square / tf.square(uncert)))
    scaled = tf.where(overflows, tf.zeros_like(square), square) / tf.square(uncert)
    infinite = tf.constant(float("inf"), square.dtype)
    return _likelihood(tf.where(overflows, infinite, scaled), uncert, n_dims, config)


def _likelihood(scaled_square, uncert, n_dims, config):
    """Returns the negative log-likelihood from the squared norm of x / uncert."""
    root = tf.sqrt(tf.cast(n_dims, uncert.dtype))
    factor = 1 / root if config.fix_uncert_factor else root
    length = charbonnier_of_square(scaled_square, n_dims, config.charb_eps)
    loss = length + factor * tf.math.log(uncert)
    if config.beta_nll == 0:
        return loss
    frozen = tf.stop_gradient(uncert)
    return loss * (frozen if config.beta_nll == 1 else tf.pow(frozen, config.beta_nll))
