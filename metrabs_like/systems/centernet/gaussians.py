"""Gaussians on heat maps, for all people and joints of a batch at once.

Conventions: cells (x, y) of a map of `(height, width)`; `N` people a map, `C` channels. A Gaussian
is the product of a column and a row, so that a map is the largest of `N` outer products.
"""

import tensorflow as tf

_FAR = 1e6  # cells; no map reaches there


def gaussian_radius(height, width, min_overlap: float = 0.7):
    """Returns how far a box may be off and still overlap with the true one.

    Kept as released: each of the three roots is divided by 2 where it should be by 2a. The third is
    the smallest in practice.

    Args:
      height: tensor, cells, the released code rounds it up first.
      width: tensor of the same shape, cells.
      min_overlap: intersection over union that is wanted; released code: 0.7.

    Returns:
      float64 tensor, cells. Sides below 0 may give NaN.

    Gradient: none is wanted.

    References:
      Law and Deng, CornerNet, ECCV 2018; released code, `utils/image.py`.
    """
    height, width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    around, area = height + width, width * height
    coefficients = [
        (1.0, around, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, 2 * around, (1 - min_overlap) * area),
        (4 * min_overlap, -2 * min_overlap * around, (min_overlap - 1) * area),
    ]
    roots = [(b + tf.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in coefficients]
    return tf.minimum(tf.minimum(roots[0], roots[1]), roots[2])


def gaussian2D(radius: int, sigma: float | None = None):
    """Returns a Gaussian on a square of cells.

    Args:
      radius: cells on each side of the middle.
      sigma: standard deviation, cells; None is a sixth of the square's side.

    Returns:
      float64 `[2 * radius + 1, 2 * radius + 1]`; 1 in the middle, 0 where it is below the precision
      of float64.

    Gradient: none is wanted.
    """
    sigma = (2 * radius + 1) / 6 if sigma is None else sigma
    squares = tf.cast(tf.range(-radius, radius + 1), tf.float64) ** 2
    patch = tf.exp(-(squares + squares[:, tf.newaxis]) / (2 * sigma * sigma))
    return tf.where(patch < 2.0**-52, tf.zeros_like(patch), patch)


def draw_umich_gaussians(centers, radii, is_drawn, map_size, k=1.0):
    """Draws Gaussians that end at a radius; where they meet, the largest counts.

    Args:
      centers: float or int `[B, N, C, 2]`, cells, truncated towards zero. Gaussians are clipped at
        the border; one centred outside of the map still shows its part.
      radii: int32 `[B, N]`, cells; the standard deviation is `(2 * radius + 1) / 6`.
      is_drawn: bool `[B, N, C]`; what is not drawn may be NaN.
      map_size: (height, width), cells.
      k: height of the peaks, a number or float `[B, N]`, above 0.

    Returns:
      float32 `[B, height, width, C]`, 0 where nothing is; peaks are exactly `k`. To float32
      rounding (2e-7) the released code's.

    Gradient: none is wanted.

    References:
      Zhou et al., Objects as Points, 2019; released code, `draw_umich_gaussian`.
    """
    cells = _cells(centers, is_drawn)
    return _drawn(cells, radii, _sixth(radii, tf.float32), is_drawn, map_size, k)


def draw_msra_gaussians(centers, sigma, is_drawn, map_size):
    """Draws Gaussians of a given width that end at three standard deviations.

    The released code exchanges width and height where it clips, and is only right for square maps;
    here all maps are.

    Args:
      centers: float or int `[B, N, C, 2]`, cells, rounded by truncating `center + 0.5`.
      sigma: int32 `[B, N]`, standard deviation, cells.
      is_drawn: bool `[B, N, C]`; what is not drawn may be NaN.
      map_size: (height, width), cells.

    Returns:
      float32 `[B, height, width, C]`, as `draw_umich_gaussians`.

    Gradient: none is wanted.

    References:
      Released code, `draw_msra_gaussian`.
    """
    cells = _cells(tf.cast(centers, tf.float32) + 0.5, is_drawn)
    return _drawn(cells, 3 * sigma, tf.cast(sigma, tf.float32), is_drawn, map_size, 1.0)


def dense_regression(
    centers, radii, values, is_object, is_valid, map_size, *, sigma=None, is_offset: bool = True
):
    """Writes vectors around the centres, one person after the other.

    A cell of a person's Gaussian is written where it is at least the largest Gaussian of the people
    before: so the nearer person wins, and of equal ones the later.

    Args:
      centers: int32 `[B, N, 2]`, cells.
      radii: int32 `[B, N]`, cells, of the part that is written and (without `sigma`) of the
        Gaussians.
      values: float `[B, N, J, 2]`, cells, vectors from the centres.
      is_object: bool `[B, N]`: whose Gaussians count.
      is_valid: bool `[B, N, J]`: which vectors are written. What does not count may be NaN.
      map_size: (height, width), cells.
      sigma: int32 `[B, N]`: the people before have Gaussians of `draw_msra_gaussians`.
      is_offset: write vectors from the cell, not from the centre.

    Returns:
      float32 `[B, height, width, J, 2]`, 0 where nothing was written.

    Gradient: none is wanted.

    References:
      Released code, `draw_dense_reg`.
    """
    centers, radii, values, is_object, is_valid = (
        _with_spare(x) for x in (centers, radii, values, is_object, is_valid)
    )
    is_valid &= is_object[..., tf.newaxis]
    values = tf.where(is_valid[..., tf.newaxis], tf.cast(values, tf.float32), 0.0)
    cells = _cells(centers, is_object)
    # float64 as released: of two equal Gaussians the one on the map, which is rounded, may be less.
    written = _profiles(cells, radii, _sixth(radii, tf.float64), is_object, map_size)
    on_map = written
    if sigma is not None:
        sigma = _with_spare(sigma)
        on_map = _profiles(cells, 3 * sigma, tf.cast(sigma, tf.float64), is_object, map_size)
    x, y = tf.range(map_size[1]), tf.range(map_size[0])
    grid = tf.stack(tf.meshgrid(x, y), axis=-1)[:, :, tf.newaxis]

    def write(n, heatmap, dense):
        patch = _outer(written, n)
        is_written = (patch > 0) & (patch >= tf.cast(heatmap, tf.float64))
        is_written = is_written[..., tf.newaxis] & is_valid[:, n, tf.newaxis, tf.newaxis]
        vectors = values[:, n, tf.newaxis, tf.newaxis]
        if is_offset:
            from_center = grid - cells[:, n, tf.newaxis, tf.newaxis, tf.newaxis]
            vectors -= tf.cast(from_center, tf.float32)
        dense = tf.where(is_written[..., tf.newaxis], vectors, dense)
        return n + 1, tf.maximum(heatmap, tf.cast(_outer(on_map, n), tf.float32)), dense

    heatmap = tf.zeros([tf.shape(centers)[0], *map_size])
    dense = tf.zeros([tf.shape(centers)[0], *map_size, tf.shape(values)[2], 2])
    end = _end(is_object)
    return tf.while_loop(lambda n, *_: n < end, write, (0, heatmap, dense))[2]


def _drawn(cells, reach, sigma, is_drawn, map_size, k):
    """Returns the largest of the Gaussians, one person after the other: no map for each person."""
    k = tf.broadcast_to(tf.cast(k, tf.float32), tf.shape(sigma))
    cells, reach, sigma, is_drawn, k = (_with_spare(x) for x in (cells, reach, sigma, is_drawn, k))
    columns, rows = _profiles(
        cells, reach[..., tf.newaxis], sigma[..., tf.newaxis], is_drawn, map_size
    )
    profiles = columns * k[..., tf.newaxis, tf.newaxis], rows

    def draw(n, maps):
        return n + 1, tf.maximum(maps, _outer(profiles, n))

    maps = tf.zeros([tf.shape(cells)[0], tf.shape(cells)[2], *map_size])
    end = _end(tf.reduce_any(is_drawn, axis=-1))
    maps = tf.while_loop(lambda n, _: n < end, draw, (0, maps))[1]
    return tf.transpose(maps, [0, 2, 3, 1])


def _profiles(cells, reach, sigma, is_drawn, map_size):
    """Returns the columns `[..., height]` and rows `[..., width]` whose products are Gaussians."""
    reach, sigma = tf.cast(reach, tf.int32)[..., tf.newaxis], sigma[..., tf.newaxis]
    profiles = []
    for size, axis in zip(map_size, (1, 0), strict=True):
        distance = tf.abs(tf.range(size) - cells[..., axis, tf.newaxis])
        is_inside = (distance <= reach) & is_drawn[..., tf.newaxis]
        squared = tf.cast(tf.where(is_inside, distance, 0) ** 2, sigma.dtype)
        exponent = -tf.math.divide_no_nan(squared, 2 * sigma * sigma)
        profiles.append(tf.where(is_inside, tf.exp(exponent), tf.zeros_like(exponent)))
    return tuple(profiles)


def _outer(profiles, n):
    """Returns the Gaussians of the nth person of each map."""
    columns, rows = profiles
    return columns[:, n, ..., tf.newaxis] * rows[:, n, ..., tf.newaxis, :]


def _cells(centers, is_drawn):
    """Truncates centres to int32 cells; those that are not drawn may be anything."""
    centers, is_drawn = tf.convert_to_tensor(centers), tf.convert_to_tensor(is_drawn)
    if centers.dtype.is_integer:
        return tf.where(is_drawn[..., tf.newaxis], tf.cast(centers, tf.int32), 0)
    safe = tf.where(is_drawn[..., tf.newaxis], centers, 0.0)
    return tf.cast(tf.clip_by_value(safe, -_FAR, _FAR), tf.int32)


def _sixth(radii, dtype):
    """Returns the standard deviation of Gaussians that end at a radius."""
    return (2 * tf.cast(radii, dtype) + 1) / 6


def _with_spare(tensor):
    """Adds one person that is not drawn: XLA cannot slice a batch without people."""
    tensor = tf.convert_to_tensor(tensor)
    return tf.pad(tensor, [[0, 0], [0, 1]] + [[0, 0]] * (tensor.shape.rank - 2))


def _end(is_object):
    """Returns the number of people up to the last one that any map shows."""
    numbers = tf.range(1, tf.shape(is_object)[1] + 1)
    return tf.reduce_max(tf.where(is_object, numbers, 0), axis=None)
