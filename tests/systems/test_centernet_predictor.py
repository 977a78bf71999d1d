"""The network behind `detect`, and as its own evaluation sees it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems import centernet
from metrabs_like.systems.centernet.predictor import people_finder
from tests.systems import centernet_batches

CONFIG = dataclasses.replace(centernet.tiny_config(), segmentation="1x1", seg_channels=4)


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(5)
    return centernet.build_model(CONFIG)


def test_detect_finds_what_decode_finds(model, rng):
    images = rng.integers(0, 256, size=(2, 64, 64, 3), dtype=np.uint8)
    predictor = centernet.make_predictor(model, CONFIG)
    found = predictor.detect(images, detector_threshold=0.0, detector_nms_iou_threshold=1.0)
    inputs = {
        "image": images.astype(np.float32) / 255,
        "input_from_image": np.tile(np.eye(3, dtype=np.float32), [2, 1, 1]),
    }
    decoded = centernet.decode(model(inputs, training=False), inputs, CONFIG)
    for i in range(2):
        # untrained networks find people of any size
        np.testing.assert_allclose(found["boxes"][i], decoded["boxes"][i], rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(found["scores"][i], decoded["scores"][i], atol=1e-4)
    assert found["masks"].shape[2:] == (64, 64)


def test_the_mirrored_image_counts_as_much_as_the_image(model, rng):
    """Of an image and its mirror image the averaged maps are mirrored: so are the people."""
    find = people_finder(model, CONFIG)
    image = tf.constant(rng.uniform(size=(1, 64, 64, 3)).astype(np.float32))
    eye = tf.eye(3, batch_shape=[1])
    people = find(image, eye, tf.constant(True))
    mirrored = find(image[:, :, ::-1], eye, tf.constant(True))
    np.testing.assert_allclose(people["scores"], mirrored["scores"], atol=1e-4)
    assert not np.allclose(people["scores"], find(image, eye, tf.constant(False))["scores"])


def test_scales_are_merged(model, rng):
    batch = centernet_batches.make_batch(rng, 2, CONFIG)
    one = centernet.evaluation_finder(model, CONFIG)((batch,))
    two = centernet.evaluation_finder(model, CONFIG)((batch, batch))
    assert sorted(two[0]) == sorted(set(one[0]) - {"mask_logits"})
    assert two[0]["scores"].shape == (2, CONFIG.top_k)
    np.testing.assert_allclose(two[0]["scores"][:, 0], one[0]["scores"][:, 0], rtol=1e-5)
    np.testing.assert_array_equal(two[1]["kp2d"]["boxes"], batch["kp2d"]["boxes"])
