"""Input checks inside the exported graph: they name the field, show the value and say what to do.

A SavedModel carries no Python, so the checks are graph assertions. The tensor comes back only once
they have passed: otherwise a later operation could fail first on the same bad value and hide the
message.
"""

import tensorflow as tf


def checked(tensor: tf.Tensor, field: str, *requirements: tuple[tf.Tensor, str]) -> tf.Tensor:
    """Returns `tensor` once every requirement holds.

    Args:
      tensor: The value to guard, any shape.
      field: Argument name for the message.
      *requirements: Pairs of a bool tensor (all elements must be true) and a text of what is
      needed instead.

    Returns:
      `tensor`, unchanged.

    Raises:
      tf.errors.InvalidArgumentError: when run, with field, remedy and the first values.

    Gradient: the identity's.
    """
    # Not `tf.debugging.Assert`: graph optimizers print warnings about its conditionals.
    assertions = [
        tf.raw_ops.Assert(
            condition=tf.reduce_all(condition),
            data=[tf.constant(f"{field}: {remedy}. It is"), tensor],
            summarize=16,
        )
        for condition, remedy in requirements
    ]
    with tf.control_dependencies(assertions):
        return tf.identity(tensor)


def checked_boxes(
    boxes: tf.RaggedTensor, n_images: tf.Tensor, image_size: tf.Tensor
) -> tf.RaggedTensor:
    """Returns the boxes once every one has an area and touches its image.

    A box that reaches beyond the border is ordinary: what lies outside is black. A box wholly
    outside holds no person at all, and its crop would be all black, so it is refused.

    Args:
      boxes: float `[B, N, >=4]` ragged, (left, top, width, height) px of the original image.
      n_images: int scalar `B`.
      image_size: int `[2]`, height and width, px.

    Returns:
      `boxes`, unchanged.

    Raises:
      tf.errors.InvalidArgumentError: when run, for a non-finite, empty or outlying box, fewer than
      four columns, or
        another number of rows than images.

    Gradient: the identity's.
    """
    flat = checked(
        boxes.flat_values,
        "boxes",
        (tf.shape(boxes.flat_values)[1] >= 4, "each needs 4 numbers (left, top, width, height)"),
    )
    row_splits = checked(
        boxes.row_splits,
        "boxes",
        (
            tf.equal(boxes.nrows(out_type=tf.int32), n_images),
            "give one row of boxes per image; these are the row splits",
        ),
    )
    height, width = tf.unstack(tf.cast(image_size, tf.float32))
    x, y, w, h = (flat[:, i] for i in range(4))
    flat = checked(
        flat,
        "boxes",
        (tf.math.is_finite(flat[:, :4]), "every number must be finite; drop boxes with NaN"),
        (tf.minimum(w, h) > 0, "width and height must be above 0 px (left, top, width, height)"),
        (
            (x < width) & (y < height) & (x + w > 0) & (y + h > 0),
            "a box lies wholly outside its image; give (left, top, width, height) in px of the "
            "image as passed, or drop the box",
        ),
    )
    return tf.RaggedTensor.from_row_splits(flat, row_splits, validate=False)


def checked_options(
    internal_batch_size: tf.Tensor, antialias_factor: tf.Tensor, num_aug: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the whole-number options once they are in range.

    Args:
      internal_batch_size: int32 scalar, 0 (everything at once) or more.
      antialias_factor: int32 scalar, 1 to 8.
      num_aug: int32 scalar, 1 or more.

    Returns:
      The three, unchanged.

    Raises:
      tf.errors.InvalidArgumentError: when run, for a value out of range.
    """
    return (
        checked(
            internal_batch_size,
            "internal_batch_size",
            (internal_batch_size >= 0, "must be 0 (all crops at once) or more"),
        ),
        checked(
            antialias_factor,
            "antialias_factor",
            ((antialias_factor >= 1) & (antialias_factor <= 8), "must be between 1 and 8"),
        ),
        checked(num_aug, "num_aug", (num_aug >= 1, "must be 1 (no augmentation) or more")),
    )
