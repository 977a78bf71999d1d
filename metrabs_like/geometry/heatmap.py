"""Soft-argmax decoding of heatmaps and its conversion to pixels and metres.

Conventions: decoded coordinates run from 0 (centre of the first bin) to 1 (centre of the last bin)
along each axis; the order of the given axes is the order of the output coordinates, for an image
volume x (width), y (height), z (depth).
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes


def linspace(start, stop, n, endpoint=True, dtype=tf.float32):
    """Returns n evenly spaced values.

    Args:
      start: Python number.
      stop: Python number.
      n: int or scalar int tensor, >= 1.
      endpoint: whether `stop` is the last value; then a single value is the midpoint (a heatmap of
        one bin is centred).
      dtype: float dtype.

    Returns:
      `[n]`.

    References:
      Released code of Neural Localizer Fields.
    """
    steps = tf.cast(tf.range(n), dtype)
    n = tf.cast(n, dtype)
    if not endpoint:
        return start + steps * ((stop - start) / n)
    spaced = start + steps * ((stop - start) / tf.maximum(n - 1, tf.ones([], dtype)))
    return tf.where(n > 1, spaced, tf.fill(tf.shape(spaced), tf.cast((start + stop) / 2, dtype)))


def soft_argmax(logits, axis):
    """Computes the expected position under a softmax over several axes together.

    Args:
      logits: float `[...]`.
      axis: list of ints, the axes of the heatmap in the order of the output coordinates.

    Returns:
      `[..., len(axis)]`, 0..1; the remaining axes of `logits` in their order.

    Raises:
      ValueError: if `axis` names an axis twice or one that is not there.

    Gradient: exact. Large logits do not overflow.
    """
    logits = as_float(logits)
    axes = _checked_axes(logits, axis)
    return decode_heatmap(softmax_over(logits, axes), axes)


def softmax_over(logits, axis):
    """Computes a softmax over several axes together.

    Args:
      logits: float `[...]`.
      axis: int or list of ints.

    Returns:
      Same shape as `logits`, float32 or float64; sums to 1 over the axes. Gradient: exact.
    """
    logits = as_float(logits)
    peak = tf.stop_gradient(tf.reduce_max(logits, axis, keepdims=True))
    exponentials = tf.exp(logits - peak)
    return exponentials / tf.reduce_sum(exponentials, axis, keepdims=True)


def decode_heatmap(heatmap, axis):
    """Computes the mean position under given weights, which are taken as they are (not normalized).

    Args:
      heatmap: float `[...]`, weights, usually summing to 1 over the axes.
      axis: list of ints, in the order of the output coordinates.

    Returns:
      `[..., len(axis)]`, 0..1.

    Raises:
      ValueError: if `axis` names an axis twice or one that is not there.

    Gradient: linear in the weights.
    """
    heatmap = as_float(heatmap)
    axes = _checked_axes(heatmap, axis)
    coords = []
    for a in axes:
        others = [b for b in axes if b != a]
        marginal = tf.reduce_sum(heatmap, others, keepdims=True)
        positions = linspace(0.0, 1.0, tf.shape(heatmap)[a], dtype=heatmap.dtype)
        shape = [1] * heatmap.shape.rank
        shape[a] = -1
        coords.append(tf.reduce_sum(marginal * tf.reshape(positions, shape), axes))
    return tf.stack(coords, axis=-1)


def _checked_axes(x, axis):
    """Returns the axes counted from the front."""
    rank, axes = x.shape.rank, list(axis)
    is_there = rank is not None and all(-rank <= a < rank for a in axes)
    axes = [a % rank for a in axes] if is_there else axes
    if not is_there or len(set(axes)) < len(axes):
        raise ValueError(
            f"axis={list(axis)}: must be different axes of the heatmap, whose shape is {x.shape}, "
            "e.g. [3, 2] for x and y of [B, P, H, W]."
        )
    return axes


def heatmap_to_image(coords, grid):
    """Converts heatmap coordinates to pixels of the crop.

    pixel = coord * (side - 1 - (side - 1) mod stride) + (stride // 2 if centred).

    Args:
      coords: float `[..., >= 2]`, 0..1; x and y come first, the rest is ignored.
      grid: CropGrid, with the stride that the network was run at.

    Returns:
      `[..., 2]`, px.

    Raises:
      ValueError: if the last dimension is known to be less than 2.

    References:
      Released code of Neural Localizer Fields.
    """
    coords = as_float(coords)
    if coords.shape.rank == 0 or (coords.shape.rank and (coords.shape[-1] or 2) < 2):
        raise ValueError(f"`coords` has shape {coords.shape}: pass x and y in the last dimension.")
    last = grid.proc_side - 1
    offset = grid.stride // 2 if grid.centered_stride else 0
    return coords[..., :2] * float(last - last % grid.stride) + float(offset)


def heatmap_to_metric(coords, grid, box_size_m):
    """Converts heatmap coordinates to metres in a cube around the person.

    Args:
      coords: float `[..., 3]`, 0..1.
      grid: CropGrid.
      box_size_m: Python float, side of the cube, m (2.2: released code).

    Returns:
      `[..., 3]`, m: x and y are the pixels of `heatmap_to_image` scaled to the cube (their offset
      included), z is scaled alone.

    Raises:
      ValueError: if the last dimension is not 3.
    """
    coords = as_float(coords)
    check_shapes(coords=(coords, "... 3"))
    xy = heatmap_to_image(coords, grid) * (box_size_m / grid.proc_side)
    return tf.concat([xy, coords[..., 2:3] * box_size_m], axis=-1)


def heatmap_to_25d(coords, grid, box_size_m):
    """Converts heatmap coordinates to pixels with metric depth.

    Args:
      coords: float `[..., 3]`, 0..1.
      grid: CropGrid.
      box_size_m: Python float, depth range, m.

    Returns:
      `[..., 3]`: x and y in px, z in m.

    Raises:
      ValueError: if the last dimension is not 3.
    """
    coords = as_float(coords)
    check_shapes(coords=(coords, "... 3"))
    return tf.concat([heatmap_to_image(coords, grid), coords[..., 2:3] * box_size_m], axis=-1)
