"""Absolute pose from a 2D head and a root-relative 3D head: where the person stands.

Conventions: the reference point is the translation t that is added to a relative pose; *valid*
points decide about t, others are translated along. Everything is per example: an example never
depends on the rest of its batch.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes
from metrabs_like.geometry.camera import (
    MIN_DEPTH_M,
    normalized_planes,
    pixel_planes,
    planes_within_fov,
)
from metrabs_like.geometry.tracing import traced_once
from metrabs_like.geometry.translation import solve_full_perspective, solve_weak_perspective

# Ridge of the full-perspective solver (released code of Neural Localizer Fields).
L2_REGULARIZER = 1e-4


def reconstruct_ref_weakpersp(normalized_2d, coords3d_rel, validity_mask=None):
    """Finds the reference point under weak perspective: depth from the ratio of sizes.

    z = stdev of the 3D pose (its x and y) / stdev of the normalized 2D pose, each at least 1e-5;
    t = (mean2d, 1) * z - mean3d.

    Args:
      normalized_2d: float `[B, P, 2]`, normalized.
      coords3d_rel: `[B, P, 3]`, m, camera axes, free origin.
      validity_mask: bool `[B, P]` or None.

    Returns:
      `[B, 3]`, m, camera frame. No valid point: exactly (0, 0, 1). One: depth 1 m.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: 0 at invalid points, NaN there touches nothing; NaN at a valid point makes its example
    NaN.

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021, sec. 3; released code of Neural Localizer Fields.
    """
    args = _ref_arguments(normalized_2d, coords3d_rel, validity_mask)
    return _ref_weakpersp(*args)


def reconstruct_ref_fullpersp(
    normalized_2d, coords3d_rel, validity_mask=None, l2_regularizer=L2_REGULARIZER
):
    """Finds the reference point under full perspective, by regularized linear least squares.

    Minimizes sum_i w_i |t_xy - n_i t_z - (n_i Z_i - XY_i)|^2 plus the ridge of the original's
    normalized system, where valid points weigh 1.0001^2 and the others 1e-8. The 3x3 normal
    equations are centred sums, solved in closed form (`geometry.translation`).

    Args:
      normalized_2d: float `[B, P, 2]`, normalized.
      coords3d_rel: `[B, P, 3]`, m, camera axes, free origin.
      validity_mask: bool `[B, P]` or None.
      l2_regularizer: Python float >= 0 (1e-4: released code); not scaled by the number of points.

    Returns:
      `[B, 3]`, m, camera frame. Without any valid point x and y shrink to about 0 and z comes from
      the invalid ones.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run) or
        the regularizer is negative.

    Gradient: exact, in closed form. Invalid points weigh 1e-8 (as the original), or nothing where
    they are not finite; NaN at a valid point makes its example NaN.

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021, sec. 3; released code of Neural Localizer Fields.
    """
    if l2_regularizer < 0:
        raise ValueError(f"l2_regularizer={l2_regularizer}: must not be negative.")
    args = _ref_arguments(normalized_2d, coords3d_rel, validity_mask)
    return _ref_fullpersp(*args, float(l2_regularizer))


def reconstruct_absolute(
    coords2d,
    coords3d_rel,
    intrinsics,
    *,
    grid,
    mix_3d_inside_fov=None,
    weak_perspective=False,
    point_validity_mask=None,
    border_factor1=0.75,
    border_factor2=None,
    mix_based_on_3d=True,
    l2_regularizer=L2_REGULARIZER,
):
    """Combines the 2D and the relative 3D head to absolute camera-space points.

    The reference point comes from the points whose 2D prediction is inside the field of view
    (`border_factor1`) and which `point_validity_mask` allows. Inside the field of view
    (`border_factor2`) a point is its back-projected 2D prediction, mixed with the translated 3D
    one; outside, and where the translated point is behind the camera, the translated one.

    Args:
      coords2d: float `[B, P, 2]`, px in the crop.
      coords3d_rel: `[B, P, 3]`, m, camera axes, free origin.
      intrinsics: `[B, 3, 3]` of the crop.
      grid: CropGrid.
      mix_3d_inside_fov: None, scalar or `[B, 1, 1]`: share of the translated 3D point inside the
        field of view.
      weak_perspective: bool or scalar bool tensor.
      point_validity_mask: bool `[B, P]` or None; invalid points are still output.
      border_factor1: Python number, border in strides for the reference (0.75: released code).
      border_factor2: the same for the choice; None takes `border_factor1`.
      mix_based_on_3d: whether the choice projects the translated point, or the (already mixed)
        back-projected one.
      l2_regularizer: Python float, see `reconstruct_ref_fullpersp`.

    Returns:
      `[B, P, 3]`, m, camera frame.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: flows to both heads and the mix; the choice has none. Non-finite input at points that
    the mask excludes is replaced by 0 and gets no gradient; at a valid point it stays visible in
    the output.

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021, sec. 3; released code of Neural Localizer Fields.
      Departure: the older MeTRAbs solver normalizes over the whole batch, this one per example.
    """
    coords3d_rel = as_float(coords3d_rel)
    coords2d, intrinsics = as_float(coords2d, coords3d_rel), as_float(intrinsics, coords3d_rel)
    mask = None if point_validity_mask is None else as_mask(point_validity_mask)
    mix = None if mix_3d_inside_fov is None else as_float(mix_3d_inside_fov, coords3d_rel)
    check_shapes(
        coords3d_rel=(coords3d_rel, "B P 3"),
        coords2d=(coords2d, "B P 2"),
        intrinsics=(intrinsics, "B 3 3"),
        point_validity_mask=(mask, "B P"),
        mix_3d_inside_fov=(mix, "" if mix is None or mix.shape.rank == 0 else "B 1 1"),
    )
    if mix is not None and mix.shape.rank == 0:
        # a scalar and [B, 1, 1] would share a graph of unknown rank, which fits neither
        mix = tf.reshape(mix, [1, 1, 1])
    if tf.is_tensor(weak_perspective):
        weak_perspective = tf.cast(weak_perspective, tf.bool)
        check_shapes(weak_perspective=(weak_perspective, ""))
    else:
        weak_perspective = bool(weak_perspective)
    border_factor2 = border_factor1 if border_factor2 is None else border_factor2
    options = (grid, border_factor1, border_factor2, bool(mix_based_on_3d), float(l2_regularizer))
    return _reconstruct_absolute(
        coords2d, coords3d_rel, intrinsics, mix, weak_perspective, mask, options
    )


def _ref_arguments(normalized_2d, coords3d_rel, validity_mask):
    """Converts and checks the arguments of the reference solvers."""
    coords3d_rel = as_float(coords3d_rel)
    normalized_2d = as_float(normalized_2d, coords3d_rel)
    validity_mask = None if validity_mask is None else as_mask(validity_mask)
    check_shapes(
        coords3d_rel=(coords3d_rel, "B P 3"),
        normalized_2d=(normalized_2d, "B P 2"),
        validity_mask=(validity_mask, "B P"),
    )
    if validity_mask is None:
        validity_mask = tf.ones_like(coords3d_rel[..., 0], tf.bool)
    return normalized_2d, coords3d_rel, validity_mask


def _planes(coords2d, coords3d):
    """Splits the heads into five [B, P] planes: they vectorize, a last dimension of 3 does not."""
    return *tf.unstack(coords2d, 2, axis=-1), *tf.unstack(coords3d, 3, axis=-1)


@traced_once
def _ref_weakpersp(normalized_2d, coords3d_rel, validity_mask):
    return tf.stack(solve_weak_perspective(*_planes(normalized_2d, coords3d_rel), validity_mask), 1)


@traced_once
def _ref_fullpersp(normalized_2d, coords3d_rel, validity_mask, l2_regularizer):
    planes = _planes(normalized_2d, coords3d_rel)
    return tf.stack(solve_full_perspective(*planes, validity_mask, l2_regularizer), 1)


@traced_once
def _reconstruct_absolute(coords2d, coords3d_rel, intrinsics, mix, weak_perspective, mask, options):
    grid, border_factor1, border_factor2, mix_based_on_3d, l2_regularizer = options
    planes = _planes(coords2d, coords3d_rel)
    if mask is not None:
        zero = tf.zeros([], coords3d_rel.dtype)
        planes = [tf.where(mask | tf.math.is_finite(plane), plane, zero) for plane in planes]
    u, v, *rel = planes
    is_reference = planes_within_fov(u, v, grid, border_factor1)
    if mask is not None:
        is_reference &= mask
    n_x, n_y = normalized_planes(u, v, intrinsics)
    ref = _reference(n_x, n_y, *rel, is_reference, weak_perspective, l2_regularizer)
    translated = [coord + offset[:, tf.newaxis] for coord, offset in zip(rel, ref, strict=True)]
    z = translated[2]
    lifted = [n_x * z, n_y * z, z]
    if mix is not None:
        mix = mix[..., 0]
        pairs = zip(translated, lifted, strict=True)
        lifted = [mix * in_3d + (1 - mix) * in_2d for in_3d, in_2d in pairs]
    chosen = translated if mix_based_on_3d else lifted
    imcoords = pixel_planes(*[tf.stop_gradient(plane) for plane in chosen], intrinsics)
    is_lifted = planes_within_fov(*imcoords, grid, border_factor2) & (z > MIN_DEPTH_M)
    # Outside the view the 3D head must not hide that the 2D one is not finite.
    is_lifted |= ~tf.math.is_finite(n_x + n_y)
    pairs = zip(lifted, translated, strict=True)
    return tf.stack([tf.where(is_lifted, in_2d, in_3d) for in_2d, in_3d in pairs], axis=-1)


def _reference(n_x, n_y, x, y, z, is_reference, weak_perspective, l2_regularizer):
    """Returns the reference point as three [B] tensors, by the solver that the switch names."""

    def weak():
        return solve_weak_perspective(n_x, n_y, x, y, z, is_reference)

    def full():
        return solve_full_perspective(n_x, n_y, x, y, z, is_reference, l2_regularizer)

    if tf.is_tensor(weak_perspective):
        return tf.cond(weak_perspective, weak, full)
    return weak() if weak_perspective else full()
