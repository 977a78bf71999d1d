"""Rotation matrices: about axes, from directions, from rotation vectors, and nearest to a matrix.

Conventions:
  Points are column vectors: `rotated = rotmat @ point`. Angles in radians. Rotation vectors are
  right-handed (as in OpenCV and SMPL): direction = axis, length = angle. `rotation_mat` keeps the
  released code's mixed handedness, see there. Half precision is computed in float32; float32 and
  float64 stay what they are. Everything runs under XLA, with unknown and zero batch sizes. Small
  products are sums of elementwise ones: matmul may round to TF32 on a GPU.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.arguments import as_float


def _quaternion_product_table():
    """Tabulates T `[4, 4, 3, 3]` with R(q)_ij = sum_ab q_a q_b T_abij for unit q, w first."""
    table = np.zeros((4, 4, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        w, x, y, z = 0, i + 1, j + 1, k + 1
        for a, sign in ((w, 1), (x, 1), (y, -1), (z, -1)):
            table[a, a, i, i] = sign
        for (row, column), sign in (((i, j), -1), ((j, i), 1)):
            table[[x, y], [y, x], row, column] = 1
            table[[w, z], [z, w], row, column] = sign
    return table


_QUATERNION_PRODUCTS = _quaternion_product_table()


def rotation_mat(angle, rot_axis):
    """Builds the rotation matrix about one coordinate axis.

    Convention (the released code's, kept so that its numbers match): with c, s = cos, sin
    x: [1 0 0; 0 c s; 0 -s c],  y: [c 0 -s; 0 1 0; s 0 c],  z: [c -s 0; s c 0; 0 0 1].
    So only z is right-handed for column vectors; x and y are the transposes of what
    `rotvec_to_rotmat` gives for the same angle.

    Args:
      angle: float `[...]`, rad.
      rot_axis: "x", "y" or "z".

    Returns:
      `[..., 3, 3]`, dtype of `angle`.

    Raises:
      ValueError: if `rot_axis` is none of the three.

    Gradient: flows to `angle` everywhere. NaN stays in its own matrix.

    References:
      NLF, released TensorFlow code.
    """
    if rot_axis not in ("x", "y", "z"):
        raise ValueError(f"rot_axis must be 'x', 'y' or 'z', got {rot_axis!r}.")
    angle = as_float(angle)
    c, s = tf.cos(angle), tf.sin(angle)
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    rows = {
        "x": ((one, zero, zero), (zero, c, s), (zero, -s, c)),
        "y": ((c, zero, -s), (zero, one, zero), (s, zero, c)),
        "z": ((c, -s, zero), (s, c, zero), (zero, zero, one)),
    }[rot_axis]
    return _stack_matrix(rows)


def get_new_rotation_matrix(forward_vector, up_vector):
    """Turns a camera so that its optical axis points along `forward_vector`.

    The rows of the result are the new x, y and z axes in old coordinates, so the matrix takes old
    to new camera coordinates: z = forward normalized, x = z cross up, y = z cross x (x right,
    y down, hence `up_vector` is (0, -1, 0) for an upright picture). Where forward is parallel to
    up, x = (z_z, 0, -z_x) is taken instead.

    Args:
      forward_vector: float `[..., 3]`, any length.
      up_vector: float `[..., 3]`, broadcast against `forward_vector`.

    Returns:
      `[..., 3, 3]`, a rotation for well-posed input. As in the released code, vectors shorter
      than 1e-6 are not brought to unit length: a zero forward vector gives a zero matrix, and
      forward parallel to an up vector along the y axis leaves x and y rows zero.

    Raises:
      ValueError: if the last dimension is statically known and not 3.

    Gradient: flows to both arguments, finite for zero vectors too.

    References:
      NLF, released TensorFlow code.
    """
    forward_vector = as_float(forward_vector)
    up_vector = as_float(up_vector, like=forward_vector)
    _check_last_dims(forward_vector, (3,), "forward_vector")
    _check_last_dims(up_vector, (3,), "up_vector")
    shape = tf.broadcast_dynamic_shape(tf.shape(forward_vector), tf.shape(up_vector))
    new_z = tf.linalg.l2_normalize(tf.broadcast_to(forward_vector, shape), axis=-1)
    sideways = tf.linalg.cross(new_z, tf.broadcast_to(up_vector, shape))
    is_parallel = tf.reduce_all(tf.equal(sideways, 0), axis=-1, keepdims=True)
    fallback = tf.stack([new_z[..., 2], tf.zeros_like(new_z[..., 0]), -new_z[..., 0]], axis=-1)
    new_x = tf.linalg.l2_normalize(tf.where(is_parallel, fallback, sideways), axis=-1)
    new_y = tf.linalg.cross(new_z, new_x)
    return tf.stack([new_x, new_y, new_z], axis=-2)


def rotvec_to_rotmat(rotvec):
    """Converts rotation vectors to rotation matrices (Rodrigues' formula).

    Args:
      rotvec: float `[..., 3]`, rad, axis times angle, right-handed.

    Returns:
      `[..., 3, 3]`, dtype of `rotvec`; the zero vector gives the identity.

    Raises:
      ValueError: if the last dimension is statically known and not 3.

    Gradient: exact and finite everywhere, at the zero vector too. NaN stays in its own matrix.
    """
    rotvec = as_float(rotvec)
    _check_last_dims(rotvec, (3,), "rotvec")
    angle_squared = tf.reduce_sum(tf.square(rotvec), axis=-1)[..., tf.newaxis, tf.newaxis]
    sine_factor = _sinc_of_square(angle_squared)
    # (1 - cos a) / a^2 without the cancellation at small angles
    cosine_factor = 0.5 * tf.square(_sinc_of_square(angle_squared / 4.0))
    x, y, z = tf.unstack(rotvec, axis=-1)
    zero = tf.zeros_like(x)
    skew = _stack_matrix(((zero, -z, y), (z, zero, -x), (-y, x, zero)))
    outer = rotvec[..., :, tf.newaxis] * rotvec[..., tf.newaxis, :]
    identity = tf.eye(3, dtype=rotvec.dtype)
    skew_squared = outer - angle_squared * identity
    return identity + sine_factor * skew + cosine_factor * skew_squared


def rotmat_to_rotvec(rotmat):
    """Converts rotation matrices to rotation vectors.

    Inverse of `rotvec_to_rotmat` for angles up to pi; at exactly pi, either of the two opposite
    axes may come out.

    Args:
      rotmat: float `[..., 3, 3]`, rotations (not checked; `project_to_so3` makes one).

    Returns:
      `[..., 3]`, rad, length in [0, pi], dtype of `rotmat`.

    Raises:
      ValueError: if the last two dimensions are statically known and not 3 x 3.

    Gradient: finite everywhere, at the identity and at pi too. NaN stays in its own vector.
    """
    rotmat = as_float(rotmat)
    _check_last_dims(rotmat, (3, 3), "rotmat")
    # For a rotation K = 4 q q^T - I, so any column of K + I is parallel to q; the one with the
    # largest diagonal entry is at least 1 long, which no branch on the angle could guarantee.
    outer = _davenport_matrix(rotmat) + tf.eye(4, dtype=rotmat.dtype)
    largest = tf.argmax(tf.linalg.diag_part(outer), axis=-1)
    column = tf.one_hot(largest, 4, dtype=rotmat.dtype)[..., tf.newaxis, :]
    quaternion = tf.reduce_sum(outer * column, axis=-1)
    quaternion = tf.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    quaternion /= tf.norm(quaternion, axis=-1, keepdims=True)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    sine_squared = tf.reduce_sum(tf.square(vector), axis=-1, keepdims=True)
    is_small = sine_squared < 1e-10
    sine = tf.sqrt(tf.where(is_small, tf.ones_like(sine_squared), sine_squared))
    # half-angle over its sine; near zero atan(s / w) / s = (1 - s^2 / (3 w^2)) / w
    safe_w = tf.where(is_small, w, tf.ones_like(w))
    near_zero = (1.0 - sine_squared / (3.0 * tf.square(safe_w))) / safe_w
    factor = tf.where(is_small, near_zero, tf.atan2(sine, w) / sine)
    return 2.0 * factor * vector


def project_to_so3(a):
    """Finds the rotation nearest to each matrix (Frobenius norm), never a reflection.

    Equals U V^T of the singular value decomposition, with the sign of the weakest direction
    changed where that has determinant -1. Computed instead as the dominant eigenvector of
    Davenport's symmetric 4x4 matrix, which compiles under XLA (the SVD has no CPU kernel there)
    and needs no case for reflections.

    Args:
      a: float `[..., 3, 3]`.

    Returns:
      `[..., 3, 3]`, rotations, dtype of `a`. Where the nearest rotation is not unique (the two
      smallest singular values cancel: rank one, or a reflection with a tie) one of the nearest
      is returned; the zero matrix gives the identity. NaN or infinity gives NaN in that matrix.

    Raises:
      ValueError: if the last two dimensions are statically known and not 3 x 3.

    Gradient: the exact first derivative; in directions in which the solution is not unique
    (relative gap below 100 machine epsilons) it is 0, so it is finite everywhere. Second
    derivatives are not provided (they come out incomplete).

    References:
      Davenport's q-method; Horn, Closed-form solution of absolute orientation, JOSA A 1987.
    """
    a = as_float(a)
    _check_last_dims(a, (3, 3), "a")
    return _quaternion_to_rotmat(_dominant_quaternion(a))


def _dominant_quaternion(a):
    """Maximizes trace(R(q)^T a) over unit quaternions `[..., 4]`, w first."""
    magnitude = tf.reduce_max(tf.abs(a), axis=[-2, -1], keepdims=True)
    is_usable = tf.math.is_finite(magnitude) & (magnitude > 0)
    magnitude = tf.stop_gradient(tf.where(is_usable, magnitude, tf.ones_like(magnitude)))
    # the identity stands in for zero and non-finite matrices: the solver never sees them
    safe_a = tf.where(is_usable, a, tf.eye(3, dtype=a.dtype)) / magnitude
    davenport = _davenport_matrix(safe_a)
    values, vectors = tf.linalg.eigh(tf.stop_gradient(davenport))
    values, vectors = tf.stop_gradient(values), tf.stop_gradient(vectors)
    dominant = vectors[..., -1]
    # First-order perturbation of an eigenvector: numerically a no-op (or a polish) of the value,
    # and the whole of the gradient. Tied directions are selected out before the division.
    gap = values[..., -1:] - values
    has_gap = gap > 100.0 * _epsilon(a.dtype) * tf.abs(values[..., -1:])
    inverse_gap = tf.where(has_gap, 1.0 / tf.where(has_gap, gap, tf.ones_like(gap)), 0.0)
    image = tf.reduce_sum(davenport * dominant[..., tf.newaxis, :], axis=-1)
    projected = tf.reduce_sum(vectors * image[..., tf.newaxis], axis=-2)
    step = tf.reduce_sum(vectors * (inverse_gap * projected)[..., tf.newaxis, :], axis=-1)
    quaternion = dominant + step
    quaternion /= tf.norm(quaternion, axis=-1, keepdims=True)
    is_nan = ~tf.math.is_finite(tf.reduce_sum(a, axis=[-2, -1]))[..., tf.newaxis]
    return tf.where(is_nan, tf.constant(float("nan"), a.dtype), quaternion)


def _davenport_matrix(a):
    """Builds the symmetric K `[..., 4, 4]` with q^T K q = trace(R(q)^T a)."""
    table = tf.constant(_QUATERNION_PRODUCTS, a.dtype)
    return tf.reduce_sum(a[..., tf.newaxis, tf.newaxis, :, :] * table, axis=[-2, -1])


def _quaternion_to_rotmat(quaternion):
    """Converts unit quaternions `[..., 4]`, w first, to matrices `[..., 3, 3]`."""
    outer = quaternion[..., :, tf.newaxis] * quaternion[..., tf.newaxis, :]
    table = tf.constant(_QUATERNION_PRODUCTS, quaternion.dtype)
    return tf.reduce_sum(outer[..., tf.newaxis, tf.newaxis] * table, axis=[-4, -3])


def _sinc_of_square(x_squared):
    """Computes sin(x) / x as a smooth function of x^2."""
    is_small = x_squared < 1e-2
    series = tf.where(is_small, x_squared, tf.zeros_like(x_squared))
    terms = 1.0 - series / 72.0 * (1.0 - series / 110.0)
    series = 1.0 - series / 6.0 * (1.0 - series / 20.0 * (1.0 - series / 42.0 * terms))
    x = tf.sqrt(tf.where(is_small, tf.ones_like(x_squared), x_squared))
    return tf.where(is_small, series, tf.sin(x) / x)


def _stack_matrix(rows):
    """Stacks nested rows of equally shaped tensors into matrices in the last two dimensions."""
    return tf.stack([tf.stack(list(row), axis=-1) for row in rows], axis=-2)


def _epsilon(dtype):
    """Returns the distance from 1 to the next number of a floating dtype."""
    return 2.0**-23 if dtype == tf.float32 else 2.0**-52


def _check_last_dims(x, dims, name):
    """Raises ValueError where the static trailing dimensions disagree with `dims`."""
    known = x.shape.rank is None or x.shape[-len(dims) :].is_compatible_with(dims)
    if not known or (x.shape.rank is not None and x.shape.rank < len(dims)):
        raise ValueError(
            f"{name} must have shape [..., {', '.join(map(str, dims))}], got {x.shape}."
        )
