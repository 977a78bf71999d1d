"""The network behind an image-level interface, and as its own evaluation sees it."""

import tensorflow as tf

from metrabs_like import serving
from metrabs_like.systems.centernet.codec import image_from_map, with_sizes
from metrabs_like.systems.centernet.decoding import activated, decode_people, to_image
from metrabs_like.systems.centernet.preparation import prepare
from metrabs_like.systems.centernet.test_time import merge_flipped, merge_scales


def make_predictor(model, config, pipeline=None):
    """Puts a network behind `detect`.

    Args:
      model: of `build_model(config)`.
      config: `Config`.
      pipeline: not read: images are fitted into the input of training, whatever the augmentation.

    Returns:
      `serving.PersonDetector`.
    """
    del pipeline
    find = people_finder(model, config)

    def network(image, input_from_image, is_twice):
        return with_sizes(find(image, input_from_image, is_twice))

    return serving.PersonDetector(
        network, model, config.proc_side, config.down_ratio, config.joints
    )


def people_finder(model, config):
    """Returns the function that finds people in an image, or in it and its mirror image.

    Args:
      model: of `build_model(config)`.
      config: `Config`.

    Returns:
      Function of `image [B, h, w, 3]`, `input_from_image [B, 3, 3]` and bool scalar `is_twice` to
      the dict of `decoding.to_image`, px of the image. With the mirrored image heat maps, boxes and
      joints are averaged (`test_time.merge_flipped`). Traceable.
    """

    def heads(image, input_from_image):
        inputs = {"image": image, "input_from_image": input_from_image}
        return activated(model(inputs, training=False), mse_loss=config.mse_loss)

    def averaged(once, image, input_from_image):
        mirrored = heads(tf.reverse(image, axis=[2]), input_from_image)
        return merge_flipped(once, mirrored, config.joints.mirror_indices)

    def find(image, input_from_image, is_twice):
        once = heads(image, input_from_image)
        outputs = tf.cond(is_twice, lambda: averaged(once, image, input_from_image), lambda: once)
        people = decode_people(outputs, top_k=config.top_k, joint_threshold=config.joint_threshold)
        return to_image(people, image_from_map(input_from_image, config.down_ratio))

    return find


def evaluation_finder(model, config, *, flip_test=False):
    """Returns the function that finds the people of batches of the pipeline, at several scales.

    Args:
      model: of `build_model(config)`.
      config: `Config`.
      flip_test: whether the mirrored images count too.

    Returns:
      Function of a tuple of batches of `data.whole_images`, of the same images at inputs of
      different size, to (the dict of `decode`, the targets of `prepare`). People of several scales
      are merged by soft-NMS (`test_time.merge_scales`). Whose numbers are not finite, as a broken
      network's, is left without a box and a score: nobody. Traceable.
    """
    find = people_finder(model, config)

    def find_in(batches):
        prepared = [prepare(batch, config, None) for batch in batches]
        found = [
            find(inputs["image"], inputs["input_from_image"], tf.constant(flip_test))
            for inputs, _ in prepared
        ]
        people = found[0] if len(found) == 1 else merge_scales(found, max_people=config.top_k)
        return _without_broken(with_sizes(people)), prepared[0][1]

    return find_in


def _without_broken(people):
    """Empties the people `[B, K, ...]` whose numbers are not finite."""
    names = ("boxes", "scores", "joints2d", "joint_scores")
    is_whole = tf.ones_like(people["scores"], tf.bool)
    for name in names:
        inner_axes = list(range(2, people[name].shape.rank))
        is_whole &= tf.reduce_all(tf.math.is_finite(people[name]), axis=inner_axes)
    for name in names:
        inner = (tf.newaxis,) * (people[name].shape.rank - 2)
        people = people | {name: tf.where(is_whole[(..., *inner)], people[name], 0.0)}
    return people
