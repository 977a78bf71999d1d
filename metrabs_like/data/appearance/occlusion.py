"""Things in front of the person: random shapes, and objects cut out of other pictures."""

import math

import tensorflow as tf

from metrabs_like.data import randomness
from metrabs_like.geometry.warping import bilinear_sample

_N_SHAPES = 3
_SMALLEST = 0.05  # half axes of shapes, share of the side
_LARGEST = 0.3  # of a lone shape; of n shapes it is divided by sqrt(n)
_HALF_PLANE_REACH = (0.3, 0.9)  # distance from the centre, in half sides
_MAX_GRAIN = 0.4
_GRAINS_PER_SIDE = 64
_OBJECT_SIZES = (0.15, 0.5)  # of the side
_CENTRAL_SHARE = 0.75  # objects whose centre lies in the middle half of the crop


def draw_shapes(images, seed):
    """Draws one to three soft-edged shapes on each crop.

    Ellipses, rectangles and triangles, turned at will, centres anywhere, half axes log-uniform
    from 0.05 to 0.3 / sqrt(n) of the side for n shapes; the first of them is a half plane in one
    crop of four, which covers at most 0.35 of the crop. All together cover at most 0.6. Half of
    the shapes have one colour, the others a grain besides. Edges are 1 to 4 px wide.

    Args:
      images: float32 `[B, S, S, 3]`, 0..1.
      seed: int32 `[2]`.

    Returns:
      float32 `[B, S, S, 3]`, 0..1.
    """
    n_images, side = tf.shape(images)[0], images.shape[1]
    numbers = randomness.uniform([n_images, _N_SHAPES, 12], randomness.split_seed(seed, 0))
    n_shapes = 1 + tf.floor(_N_SHAPES * numbers[:, 0, 11])
    grain = _grain(n_images, side, randomness.split_seed(seed, 1))
    for i in range(_N_SHAPES):
        drawn = numbers[:, i]
        alpha = _coverage(drawn, n_shapes, side, may_be_half_plane=i == 0)
        alpha *= _per_image(tf.cast(i < n_shapes, tf.float32))[..., 0]
        strength = _MAX_GRAIN * tf.nn.relu(2 * drawn[:, 10] - 1)
        colour = drawn[:, tf.newaxis, tf.newaxis, 7:10] + _per_image(strength) * grain
        colour = tf.clip_by_value(colour, 0.0, 1.0)
        images += alpha[..., tf.newaxis] * (colour - images)
    return images


def paste_objects(images, objects, seed, *, places=None):
    """Pastes one object on each crop, turned by any angle, half of them flipped.

    The object's picture gets a side of 0.15 to 0.5 of the crop's. Three of four centres lie in
    the middle half of the crop, the others anywhere in it.

    Args:
      images: float32 `[B, S, S, 3]`, 0..1.
      objects: uint8 `[B, M, M, 4]`, RGBA.
      seed: int32 `[2]`.
      places: float `[B, 2]`, crop px, the objects' centres; None draws them.

    Returns:
      float32 `[B, S, S, 3]`, 0..1.
    """
    n_images, side = tf.shape(images)[0], images.shape[1]
    numbers = randomness.uniform([n_images, 7], seed)
    size = side * (_OBJECT_SIZES[0] + (_OBJECT_SIZES[1] - _OBJECT_SIZES[0]) * numbers[:, 0])
    if places is None:
        spread = tf.where(numbers[:, 5:6] < _CENTRAL_SHARE, 0.25, 0.5)
        places = (0.5 + spread * (2 * numbers[:, 1:3] - 1)) * side - 0.5
    u, v = _turned_grid(side, tf.cast(places, tf.float32), 2 * math.pi * numbers[:, 3])
    u = tf.where(_per_image(numbers[:, 4] < 0.5)[..., 0], -u, u)
    object_side = tf.cast(tf.shape(objects)[1], tf.float32)
    density = object_side / size
    points = tf.stack([u, v], axis=-1) * _per_image(density) + (object_side - 1) / 2
    # Colour times opacity: the unseen colour of transparent pixels must not bleed in.
    premultiplied = tf.cast(objects, tf.float32) / 255
    opacity = premultiplied[..., 3:]
    premultiplied = tf.concat([premultiplied[..., :3] * opacity, opacity], axis=-1)
    sampled = bilinear_sample(_smoothed(premultiplied, density), points)
    gain = _per_image(0.7 + 0.6 * numbers[:, 6])
    front = tf.minimum(sampled[..., :3] * gain, sampled[..., 3:])
    return images * (1 - sampled[..., 3:]) + front


def _coverage(drawn, n_shapes, side, *, may_be_half_plane):
    """Returns how much each pixel is covered by one shape of each image, `[B, S, S]`."""
    kind = tf.floor((4 if may_be_half_plane else 3) * drawn[:, 0])
    ratio = tf.math.log(_LARGEST / _SMALLEST / tf.sqrt(n_shapes))
    a, b = (_per_image(side * _SMALLEST * tf.exp(drawn[:, j] * ratio))[..., 0] for j in (1, 2))
    centers = drawn[:, 3:5] * side - 0.5
    if may_be_half_plane:
        middle = tf.fill(tf.shape(centers), (side - 1) / 2)
        centers = tf.where(kind[:, tf.newaxis] == 3, middle, centers)
    u, v = _turned_grid(side, centers, 2 * math.pi * drawn[:, 5])
    # Distances to the edge, px, positive inside.
    slant = 2 * b / tf.sqrt(a * a + 4 * b * b)
    ellipse = (1 - tf.sqrt((u / a) ** 2 + (v / b) ** 2)) * tf.minimum(a, b)
    rectangle = tf.minimum(a - tf.abs(u), b - tf.abs(v))
    triangle = tf.minimum(b - v, (a * (v + b) / (2 * b) - tf.abs(u)) * slant)
    kind = _per_image(kind)[..., 0]
    inside = tf.where(kind == 0, ellipse, tf.where(kind == 1, rectangle, triangle))
    if may_be_half_plane:
        low, high = _HALF_PLANE_REACH
        reach = _per_image(low + (high - low) * drawn[:, 3])[..., 0]
        inside = tf.where(kind == 3, v - reach * side / 2, inside)
    width = _per_image(1 + 3 * drawn[:, 6])[..., 0]
    return tf.clip_by_value(inside / width + 0.5, 0.0, 1.0)


def _turned_grid(side, centers, angle):
    """Returns the pixels' coordinates in frames at centres `[B, 2]` px, turned; `[B, S, S]` x 2."""
    axis = tf.range(side, dtype=tf.float32)
    x = axis[tf.newaxis, tf.newaxis, :] - centers[:, 0, tf.newaxis, tf.newaxis]
    y = axis[tf.newaxis, :, tf.newaxis] - centers[:, 1, tf.newaxis, tf.newaxis]
    cos, sin = _per_image(tf.cos(angle))[..., 0], _per_image(tf.sin(angle))[..., 0]
    return cos * x + sin * y, cos * y - sin * x


def _grain(n_images, side, seed):
    """Returns noise of coarse pixels, `[B, S, S, 3]`, -0.5..0.5."""
    size = max(1, side // _GRAINS_PER_SIDE)
    n_cells = -(-side // size)
    cells = randomness.uniform([n_images, n_cells, 1, n_cells, 1, 3], seed) - 0.5
    cells = tf.broadcast_to(cells, [n_images, n_cells, size, n_cells, size, 3])
    cells = tf.reshape(cells, [n_images, n_cells * size, n_cells * size, 3])
    return cells[:, :side, :side]


def _smoothed(objects, density):
    """Averages neighbouring pixels of objects that are going to be shrunk."""
    for step in (1, 2):
        padded = tf.pad(objects, [[0, 0], [step, step], [step, step], [0, 0]])
        rows = padded[:, : -2 * step] + 2 * padded[:, step:-step] + padded[:, 2 * step :]
        both = rows[:, :, : -2 * step] + 2 * rows[:, :, step:-step] + rows[:, :, 2 * step :]
        objects = tf.where(_per_image(density) > 1.5 * step, both / 16, objects)
    return objects


def _per_image(values):
    """Reshapes `[B]` to `[B, 1, 1, 1]`."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
