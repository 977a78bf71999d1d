"""Peaks of heat maps: suppression of neighbours, the best k, values at their cells.

Conventions: maps `[B, H, W, C]`; a *cell* is an index into the H * W cells of a map, row by row.
Every size may be unknown; an empty batch, maps of one row, and k above the number of cells are
ordinary. All of it compiles with XLA, but is faster without on a CPU.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes

_BLOCK = 16  # cells of a block, of which the maximum is looked at first (ours, the fastest)


def suppress_non_peaks(heatmaps, kernel=3):
    """Sets all cells to 0 that are not the largest of their neighbourhood.

    Args:
      heatmaps: float `[B, H, W, C]`.
      kernel: odd int, side of the neighbourhood.

    Returns:
      `[B, H, W, C]` float32. Cells of a plateau are all kept. Cells beyond the border do not
      compete.

    Raises:
      ValueError: if `kernel` is not odd or `heatmaps` has another rank.

    Gradient: 1 at peaks.

    References:
      Released code of Objects as Points, `_nms`.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: must be odd and >= 1")
    heatmaps = as_float(heatmaps)
    check_shapes(heatmaps=(heatmaps, "B H W C"))
    largest = tf.nn.max_pool2d(tf.stop_gradient(heatmaps), kernel, 1, "SAME")
    # The product is faster than a selection.
    return heatmaps * tf.cast(tf.equal(largest, heatmaps), heatmaps.dtype)


def top_k_per_channel(heatmaps, k):
    """Finds the largest k values of each channel.

    Exact, in two rounds: the k blocks of the largest maxima hold the k largest values, so that the
    second round sees k blocks only.

    Args:
      heatmaps: float `[B, H, W, C]`.
      k: int >= 1.

    Returns:
      (scores `[B, C, k]`, descending; cells int32 `[B, C, k]`). The order among equal scores is
      not specified. Where a map has fewer than k cells, the rest has score 0 and its last cell.

    Raises:
      ValueError: if `k` is not positive or `heatmaps` has another rank.

    Gradient: none.

    References:
      Released code of Objects as Points, `_topk_channel`.
    """
    if k < 1:
        raise ValueError(f"k={k}: must be >= 1")
    heatmaps = tf.stop_gradient(as_float(heatmaps))
    check_shapes(heatmaps=(heatmaps, "B H W C"))
    blocks = _in_blocks(heatmaps, k)
    batch, n_blocks, _, n_channels = tf.unstack(tf.shape(blocks))
    window = [1, _BLOCK]
    maxima = tf.nn.max_pool2d(blocks, window, window, "VALID")
    maxima = tf.transpose(tf.reshape(maxima, [batch, n_blocks, n_channels]), [0, 2, 1])
    best = tf.math.top_k(maxima, k, sorted=False).indices  # B C k
    # The values of these blocks, by their places in the flat tensor.
    block = tf.range(batch)[:, tf.newaxis, tf.newaxis] * n_blocks + best
    place = block[..., tf.newaxis] * _BLOCK + tf.range(_BLOCK)
    place = place * n_channels + tf.range(n_channels)[:, tf.newaxis, tf.newaxis]
    values = tf.gather(tf.reshape(blocks, [-1]), place)
    values = tf.reshape(values, [batch, n_channels, k * _BLOCK])
    scores, position = tf.math.top_k(values, k)
    cells = tf.gather(best, position // _BLOCK, batch_dims=2) * _BLOCK + position % _BLOCK
    n_cells = tf.shape(heatmaps)[1] * tf.shape(heatmaps)[2]
    return tf.where(cells < n_cells, scores, 0.0), tf.minimum(cells, n_cells - 1)


def top_k_over_channels(heatmaps, k):
    """Finds the largest k values of all channels together.

    Args:
      heatmaps: float `[B, H, W, C]`.
      k: int >= 1.

    Returns:
      (scores `[B, k]`, descending; cells int32 `[B, k]`; channels int32 `[B, k]`). Otherwise as
      `top_k_per_channel`.

    Raises:
      ValueError: as `top_k_per_channel`.

    Gradient: none.

    References:
      Released code of Objects as Points, `_topk`.
    """
    scores, cells = top_k_per_channel(heatmaps, k)
    if scores.shape[1] == 1:
        return scores[:, 0], cells[:, 0], tf.zeros_like(cells[:, 0])
    flat = [tf.shape(scores)[0], tf.shape(scores)[1] * k]
    scores, position = tf.math.top_k(tf.reshape(scores, flat), k)
    return scores, tf.gather(tf.reshape(cells, flat), position, batch_dims=1), position // k


def gather_cells(maps, cells):
    """Reads the vectors of a map at cells.

    Args:
      maps: float `[B, H, W, C]`.
      cells: integers `[B, N]`.

    Returns:
      `[B, N, C]` float32.

    Raises:
      ValueError: if shapes disagree.

    Gradient: to the maps; a cell that is read twice gets the sum.
    """
    maps, cells = as_float(maps), tf.convert_to_tensor(cells)
    check_shapes(maps=(maps, "B H W C"), cells=(cells, "B N"))
    batch, height, width, n_channels = tf.unstack(tf.shape(maps))
    rows = tf.reshape(maps, [batch, height * width, maps.shape[3] or n_channels])
    return tf.gather(rows, cells, batch_dims=1)


def cell_coordinates(cells, width):
    """Returns the position of cells.

    Args:
      cells: int32 of any shape.
      width: scalar int, cells of a row.

    Returns:
      float32 `[..., 2]`: x (column), y (row).
    """
    return tf.cast(tf.stack([cells % width, cells // width], axis=-1), tf.float32)


def _in_blocks(heatmaps, k):
    """Cuts the cells into k blocks or more, `[B, blocks, 16, C]`; what fills them never wins."""
    batch, height, width, n_channels = tf.unstack(tf.shape(heatmaps))
    n_cells = height * width
    n_blocks = tf.maximum((n_cells + _BLOCK - 1) // _BLOCK, k)
    n_channels = heatmaps.shape[3] or n_channels
    flat = tf.reshape(heatmaps, [batch, n_cells, n_channels])
    filler = [[0, 0], [0, n_blocks * _BLOCK - n_cells], [0, 0]]
    flat = tf.pad(flat, filler, constant_values=heatmaps.dtype.min)
    return tf.reshape(flat, [batch, n_blocks, _BLOCK, n_channels])
