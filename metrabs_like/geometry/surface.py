"""Random points on the surface of a body model.

Conventions: a point is three vertices and their barycentric weights. Random numbers are raw bits of
the philox generator, which are the same with and without XLA.
"""

import functools

import numpy as np
import tensorflow as tf


def sample_surface_points(model, shape, seed):
    """Draws points evenly over the area of the template.

    Args:
      model: BodyModel with at least one face of positive area.
      shape: int `[...]`, e.g. (B, K): how many points.
      seed: int32 `[2]`; the same seed gives the same points, also under XLA.

    Returns:
      Vertex numbers int32 `[..., 3]` and weights float32 `[..., 3]`, >= 0, that add up to 1.

    Raises:
      ValueError: if the model has no face of positive area.

    Gradient: none.

    References:
      Walker's alias method, as described by Vose, 1991: no search through the areas.
    """
    keep, alias = (tf.constant(array) for array in _alias_table(model))
    faces = tf.constant(model.faces)
    shape = tf.cast(tf.convert_to_tensor(shape), tf.int32)
    bits = tf.random.stateless_uniform(
        tf.concat([shape, [4]], axis=0),
        seed, minval=None, maxval=None, dtype=tf.int32, alg="philox",
    )  # fmt: skip
    bits = tf.bitcast(bits, tf.uint32)
    # 24 bits are exact in float32, so that every machine rounds alike
    bits = tf.bitcast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
    column, chance, u, v = tf.unstack(tf.cast(bits, tf.float32) * 2.0**-24, axis=-1)
    column = tf.cast(column * len(model.faces), tf.int32)
    column = tf.minimum(column, len(model.faces) - 1)
    face = tf.where(chance < tf.gather(keep, column), column, tf.gather(alias, column))
    is_outside = u + v > 1.0
    u, v = tf.where(is_outside, 1.0 - u, u), tf.where(is_outside, 1.0 - v, v)
    return tf.gather(faces, face), tf.stack([1.0 - u - v, u, v], axis=-1)


def face_areas(vertices, faces) -> np.ndarray:
    """Returns the areas of triangles.

    Args:
      vertices: array `[V, 3]`.
      faces: int array `[F, 3]`.

    Returns:
      float64 array `[F]`, in the squared unit of the vertices.
    """
    a, b, c = np.asarray(vertices, np.float64)[np.asarray(faces)].transpose(1, 0, 2)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


@functools.lru_cache(maxsize=8)
def _alias_table(model):
    """For each face the chance to be kept, and the face that is taken otherwise."""
    areas = face_areas(model.v_template, model.faces)
    if not areas.sum() > 0:
        raise ValueError(f"The body model {model.name!r} has no face with an area to sample from.")
    share = areas * (len(areas) / areas.sum())
    keep, alias = np.ones(len(share)), np.arange(len(share))
    small = [int(i) for i in np.flatnonzero(share < 1)]
    large = [int(i) for i in np.flatnonzero(share >= 1)]
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], alias[low] = share[low], high
        share[high] -= 1.0 - share[low]
        if share[high] < 1:
            small.append(large.pop())
    return keep.astype(np.float32), alias.astype(np.int32)
