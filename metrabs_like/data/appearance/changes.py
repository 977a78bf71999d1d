"""All changes of appearance in their order, each example by the probabilities of its source."""

import tensorflow as tf

from metrabs_like.data import randomness
from metrabs_like.data.appearance.background import replace_background
from metrabs_like.data.appearance.blur import blur
from metrabs_like.data.appearance.jpeg import jpeg_artefacts
from metrabs_like.data.appearance.occlusion import draw_shapes, paste_objects
from metrabs_like.data.augment import photometric

CHANGES = ("shapes", "objects", "background", "colour", "blur", "jpeg")
"""Names of the changes, in the order of the columns of `probabilities`."""

# Streams of draws beside those of `photometric`, which takes the seed itself.
_FIRST_STREAM = 101


def change_appearance(
    images,
    probabilities,
    seed,
    *,
    masks=None,
    has_mask=None,
    backgrounds=None,
    objects=None,
    object_places=None,
    jit_compile: bool = False,
):
    """Changes the looks of crops, each with the probabilities of its source.

    Applied in this order: background, objects, shapes, blur, colour, JPEG artefacts. A change
    that no example of the batch draws costs nothing but the question.

    Args:
      images: float `[B, S, S, 3]`, 0..1; B may be 0, S is static.
      probabilities: float32 `[B, 6]`, in the order of `CHANGES`; 0 is never, 1 always.
      seed: int32 `[2]`.
      masks: float `[B, S, S, 1]`, 0..1, the visible part of the person, or None: no background
        is replaced.
      has_mask: bool `[B]`, whose mask is one; None stands for all.
      backgrounds: uint8 `[B, T, T, 3]`, one for each example, or None: no background is replaced.
      objects: uint8 `[B, M, M, 4]` RGBA, one for each example, or None: none is pasted.
      object_places: float `[B, 2]`, crop px, where the objects' centres go, or None: drawn.
      jit_compile: whether XLA compiles it, some seconds for each shape; on a CPU it is 2 to 3 times
        faster then.

    Returns:
      Images of the same shape and dtype, 0..1; bit-equal where nothing was drawn.

    Raises:
      ValueError: if the side of the images is not known when the graph is made.

    Gradient: none is wanted.
    """
    if not images.shape[1] or images.shape[1] != images.shape[2]:
        raise ValueError(
            f"images has shape {images.shape}: it must be [B, S, S, 3] with a known side; "
            "use tf.ensure_shape."
        )
    companions = (masks, has_mask, backgrounds, objects, object_places)
    change = _compiled_change if jit_compile else _change
    return change(images, tf.cast(probabilities, tf.float32), seed, *companions)


def _change(images, probabilities, seed, masks, has_mask, backgrounds, objects, object_places):
    """Applies one change after the other."""
    is_drawn = randomness.uniform(
        tf.shape(probabilities), randomness.split_seed(seed, _FIRST_STREAM - 1)
    )
    is_drawn = tf.unstack(is_drawn < probabilities, axis=-1)
    is_drawn = dict(zip(CHANGES, is_drawn, strict=True))
    if has_mask is not None:
        is_drawn["background"] &= has_mask
    functions = {}
    if masks is not None and backgrounds is not None:
        functions["background"] = lambda x, s: replace_background(x, masks, backgrounds, s)
    if objects is not None:
        functions["objects"] = lambda x, s: paste_objects(x, objects, s, places=object_places)
    functions |= {"shapes": draw_shapes, "blur": blur, "colour": photometric}
    functions["jpeg"] = jpeg_artefacts
    changed = tf.cast(images, tf.float32)
    for name, function in functions.items():
        stream = _FIRST_STREAM + CHANGES.index(name)
        own_seed = seed if name == "colour" else randomness.split_seed(seed, stream)
        changed = _applied(function, changed, is_drawn[name], own_seed)
    return tf.cast(changed, images.dtype)


# Without relaxed shapes: the side must stay known.
_compiled_change = tf.function(_change, jit_compile=True, autograph=False)


def _applied(function, images, is_drawn, seed):
    """Applies a change to the drawn examples; skips it where there are none."""

    def change():
        select = is_drawn[:, tf.newaxis, tf.newaxis, tf.newaxis]
        return tf.ensure_shape(tf.where(select, function(images, seed), images), images.shape)

    return tf.cond(tf.reduce_any(is_drawn), change, lambda: tf.identity(images))
