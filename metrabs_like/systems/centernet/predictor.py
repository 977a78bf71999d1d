"""The network behind an image-level interface."""

import tensorflow as tf

from metrabs_like import serving
from metrabs_like.systems.centernet.codec import image_from_map, with_sizes
from metrabs_like.systems.centernet.decoding import activated, decode_people, to_image
from metrabs_like.systems.centernet.test_time import merge_flipped


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
    return serving.PersonDetector(
        look_twice(model, config), model, config.proc_side, config.down_ratio, config.joints
    )


def look_twice(model, config):
    """Returns the function that finds people in an image, or in it and its mirror image.

    Args:
      model: of `build_model(config)`.
      config: `Config`.

    Returns:
      Function of `image [B, h, w, 3]`, `input_from_image [B, 3, 3]` and bool scalar `is_twice` to
      the dict of `decode`; of the mirrored image the heat maps, boxes and joints are averaged with
      those of the image (`test_time.merge_flipped`).
    """

    def heads(image, input_from_image):
        inputs = {"image": image, "input_from_image": input_from_image}
        return activated(model(inputs, training=False), mse_loss=config.mse_loss)

    def averaged(outputs, image, input_from_image):
        mirrored = heads(tf.reverse(image, axis=[2]), input_from_image)
        return merge_flipped(outputs, mirrored, config.joints.mirror_indices)

    def find(image, input_from_image, is_twice):
        once = heads(image, input_from_image)
        outputs = tf.cond(is_twice, lambda: averaged(once, image, input_from_image), lambda: once)
        people = decode_people(outputs, top_k=config.top_k, joint_threshold=config.joint_threshold)
        matrices = image_from_map(input_from_image, config.down_ratio)
        return with_sizes(to_image(people, matrices))

    return find
