"""The `tf.keras.applications` networks as backbones: input 0..1, features at stride 32.

Conventions: each network gets the intensities it was trained with (its own scaling stands inside
the returned model); weights come from Keras' download, cache or a file.
"""

import tensorflow as tf

# name -> (constructor, keyword arguments, factor, offset): network input = image * factor + offset
APPLICATIONS = {
    "mobilenet_v3_small": ("MobileNetV3Small", {"include_preprocessing": False}, 2.0, -1.0),
    "mobilenet_v3_large": ("MobileNetV3Large", {"include_preprocessing": False}, 2.0, -1.0),
    "resnet50_v2": ("ResNet50V2", {}, 2.0, -1.0),
    "efficientnet_v2_s": ("EfficientNetV2S", {"include_preprocessing": False}, 255 / 128, -1.0),
    "efficientnet_v2_m": ("EfficientNetV2M", {"include_preprocessing": False}, 255 / 128, -1.0),
    "efficientnet_v2_l": ("EfficientNetV2L", {"include_preprocessing": False}, 255 / 128, -1.0),
}


def build_application(name, *, stride=32, weights=None):
    """Builds a `tf.keras.applications` backbone without its classification top.

    Args:
      name: a key of `APPLICATIONS`.
      stride: int, must be 32: the networks' own.
      weights: None (random), "imagenet" (downloaded once into Keras' cache), or a file of such
        weights on this machine.

    Returns:
      `tf.keras.Model`: float `[B, S, S, 3]` in 0..1 -> `[B, S/32, S/32, C]`.

    Raises:
      ValueError: another stride, a missing file, or weights that could not be downloaded.
    """
    if stride != 32:
        raise ValueError(
            f'stride={stride}: backbone {name} has features at stride 32 only; use 32, or "tiny"'
        )
    if weights and weights != "imagenet" and not tf.io.gfile.exists(weights):
        raise ValueError(f'weights={weights!r} is no file; give a path, "imagenet" or nothing')
    constructor, kwargs, factor, offset = APPLICATIONS[name]
    image = tf.keras.Input([None, None, 3], name="image")
    scaled = tf.keras.layers.Rescaling(factor, offset=offset, name="to_network_range")(image)
    try:
        network = getattr(tf.keras.applications, constructor)(
            include_top=False, weights=weights or None, input_shape=(None, None, 3), **kwargs
        )
    except Exception as error:
        if weights != "imagenet":
            raise
        raise ValueError(
            f'weights="imagenet" of {name} could not be fetched ({error}); connect to the network '
            f"once, or copy the *_no_top file into ~/.keras/models, or give its path, or leave "
            f"weights empty to start from random ones"
        ) from error
    return tf.keras.Model(image, network(scaled), name=name)
