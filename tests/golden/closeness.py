"""How close is close: every tolerance of the golden tests, once, with its reason.

An error is compared with rtol * |reference| + stol * (largest |reference| of the same example):
sums over an example carry the float32 noise of their largest part.
"""

import numpy as np

# (rtol, stol) by kind of quantity.
TOLERANCES = {
    # The reference's own float32 noise against float64 is 2e-7 to 2e-6 relative.
    "value": (5e-6, 2e-6),
    # Reference noise: 1e-6 of the distance (6e-5 m at 60 m, 6e-6 m at 8 m); where it is larger,
    # `exact` shows it. On top of that ours erred by 1e-6 at most in 20000 random examples.
    "recon": (1e-6, 1.5e-6),
    # Backward passes add up more terms than forward ones.
    "grad": (5e-5, 1e-5),
    # Through the full-perspective solve; reference against finite differences: 1e-5 to 7e-4.
    "recon_grad": (7e-4, 1e-4),
    # Three-by-three SVD gradients: noise grows with the inverse gap of the singular values.
    "svd_grad": (1e-3, 2e-4),
    # Exact comparisons: booleans and integers.
    "exact": (0.0, 0.0),
}
# Below this an error is nothing: rounding of numbers of the order of 1.
ATOL = 2e-7


def allowed_error(reference, kind):
    """Returns the elementwise error allowed for a quantity of this kind."""
    if kind == "exact":
        return np.zeros(reference.shape)
    rtol, stol = TOLERANCES[kind]
    size = np.where(np.isfinite(reference), np.abs(reference), 0.0).astype(np.float64)
    axes = tuple(range(1, size.ndim))
    scale = size.max(axis=axes, keepdims=True, initial=0.0) if size.ndim > 1 else size
    return rtol * size + stol * scale + ATOL


def completed(reference, exact, is_ours_alone):
    """Returns the reference, with the exact numbers in places where only ours is finite."""
    if exact is None:
        return reference
    is_known = is_ours_alone & ~np.isfinite(reference) & np.isfinite(exact)
    return np.where(is_known, exact, reference)


def assert_close(actual, reference, kind, exact=None, noise=0.0, context=""):
    """Asserts that a quantity agrees with the reference where that is finite or infinite.

    Args:
      actual: ours.
      reference: the original's, maybe non-finite.
      kind: key of TOLERANCES.
      exact: float64 evaluation of the same formula. Where given, ours may err from it by the
        reference's own error in the same example on top: that is how ill-conditioned input shows.
      noise: absolute rounding noise of the terms of a sum, where they are larger than their sum.
      context: what is compared.
    """
    actual, reference = np.asarray(actual), np.asarray(reference)
    assert actual.shape == reference.shape, f"{context}: {actual.shape} != {reference.shape}"
    if kind == "exact":
        np.testing.assert_array_equal(actual, reference, err_msg=context)
        return
    finite = np.isfinite(reference)
    # Infinities come from overflow; what ours is where the reference is NaN, `nonfinite` says.
    infinite = np.isinf(reference)
    np.testing.assert_array_equal(actual[infinite], reference[infinite], err_msg=context)
    error = np.abs(
        np.subtract(actual, reference, dtype=np.float64, where=finite, out=np.zeros(finite.shape))
    )
    allowed = allowed_error(reference, kind) + noise
    if exact is not None:
        own_error = np.nan_to_num(np.where(finite, np.abs(reference - exact), 0.0))
        axes = tuple(range(1, own_error.ndim))
        own_error = own_error.max(axis=axes, keepdims=True, initial=0.0)
        error = np.fmin(error, np.maximum(np.abs(actual - exact) - own_error, 0.0))
    excess = np.where(finite, error - allowed, 0.0)
    bad = ~(excess <= 0)
    if bad.any():
        worst = np.unravel_index(
            np.argmax(np.where(bad, np.nan_to_num(excess, nan=np.inf), -1)), bad.shape
        )
        raise AssertionError(
            f"{context}: {bad.sum()} of {bad.size} differ; worst at {worst}: ours {actual[worst]}, "
            f"reference {reference[worst]}, allowed {allowed[worst]:.3g}"
        )
