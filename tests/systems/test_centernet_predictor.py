"""The network behind `detect`, and as its own evaluation sees it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.serving.checks import checked_boxes
from metrabs_like.systems import centernet
from metrabs_like.systems.centernet.predictor import people_finder
from tests.systems import centernet_batches

CONFIG = dataclasses.replace(centernet.tiny_config(), segmentation="1x1", seg_channels=4)


@pytest.fixture(scope="module")
def model():
    """Untrained, but its boxes are large enough to touch the image."""
    tf.keras.utils.set_random_seed(5)
    model = centernet.build_model(CONFIG)
    model.get_layer("wh.2").bias.assign([8.0, 8.0])
    return model


@pytest.fixture(scope="module")
def predictor(model):
    return centernet.make_predictor(model, CONFIG)


def test_detect_finds_what_decode_finds(model, predictor, rng):
    images = rng.integers(0, 256, size=(2, 64, 64, 3), dtype=np.uint8)
    found = predictor.detect(images, detector_threshold=0.0, detector_nms_iou_threshold=1.0)
    inputs = {
        "image": images.astype(np.float32) / 255,
        "input_from_image": np.tile(np.eye(3, dtype=np.float32), [2, 1, 1]),
    }
    decoded = centernet.decode(model(inputs, training=False), inputs, CONFIG)
    for i in range(2):
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


LONG = ((8000, 200), (200, 8000))


@pytest.mark.parametrize("input_side", [-1, 0])
@pytest.mark.parametrize("size", LONG)
def test_nobody_is_found_outside_long_photographs(predictor, size, input_side, rng):
    """Fitted into a square, most of the input is black bars, which have peaks too."""
    image = np.full((1, *size, 3), 128, np.uint8)
    image[:, ::50, ::50] = rng.integers(0, 256, size=3)
    everyone = {"detector_threshold": 0.0, "detector_nms_iou_threshold": 1.0}
    found = predictor.detect(image, input_side=input_side, **everyone)
    boxes = checked_boxes(found["boxes"], tf.constant(1), tf.constant(size))
    assert boxes.row_lengths()[0] >= (input_side == 0)  # fitted, the picture is 2 px wide
    assert found["masks"].shape[2:] == size
    assert found["masks"].row_lengths() == boxes.row_lengths()


def test_a_network_gone_wrong_finds_nobody_and_is_measured(rng):
    """Infinite sizes of boxes: `detect` drops these people, evaluation counts them as not found."""
    tf.keras.utils.set_random_seed(5)
    model = centernet.build_model(CONFIG)
    model.get_layer("wh.2").bias.assign([np.inf, 8.0])
    batch = centernet_batches.make_batch(rng, 2, CONFIG)
    decoded, targets = centernet.evaluation_finder(model, CONFIG)((batch,))
    for name in ("boxes", "scores", "joints2d", "joint_scores"):
        np.testing.assert_array_equal(decoded[name], np.zeros(decoded[name].shape), err_msg=name)
    recall, n_people = centernet.evaluate(decoded, targets, CONFIG)["recall_at_50_iou"]
    assert recall == 0 and n_people > 0
    predictor = centernet.make_predictor(model, CONFIG)
    found = predictor.detect(np.zeros((1, 64, 64, 3), np.uint8), detector_threshold=0.0)
    assert found["boxes"].row_lengths() == 0
