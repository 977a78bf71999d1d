"""Detection behind its image-level interface, with a network that finds marked pixels.

The toy network's people are at the brightest pixels of its input: one red pixel value above 0 is
one person, its score the value, its box 8 by 6 input px around it, its joint at it.
"""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import serving
from metrabs_like.geometry.warping import warp_affine
from metrabs_like.serving.checks import checked_boxes
from metrabs_like.serving.detection import image_masks
from metrabs_like.serving.fitting import fit_photographs
from metrabs_like.skeletons import Skeleton

ONE_JOINT = Skeleton("one", ("middle_toy",), ())
SIDE, K = 64, 5


class Toy(tf.Module):
    """A model with one variable, so that there is something to save."""

    def __init__(self):
        super().__init__()
        self.gain = tf.Variable(1.0)

    def people(self, images, input_from_image, flip_aug):
        """The marked pixels, in image px, and masks of one cell in a map of stride 4."""
        _, height, width, _ = tf.unstack(tf.shape(images))
        marks = tf.reshape(images[..., 0] * self.gain, [-1, height * width])
        scores, index = tf.math.top_k(marks, K)
        scores *= tf.where(flip_aug, 0.5, 1.0)
        points = tf.cast(tf.stack([index % width, index // width], -1), tf.float32)
        image_from_input = tf.linalg.inv(input_from_image)
        middle = tf.einsum("bij,bkj->bki", image_from_input[:, :2, :2], points)
        middle += image_from_input[:, tf.newaxis, :2, 2]
        size = tf.broadcast_to(
            tf.constant([8.0, 6.0]) * image_from_input[:, tf.newaxis, :1, 0], tf.shape(middle)
        )
        cells = tf.one_hot(index // width // 4 * (width // 4) + index % width // 4,
                           height * width // 16) * 2 - 1  # fmt: skip
        return {
            "boxes": tf.concat([middle - size / 2, size], axis=-1),
            "scores": scores,
            "joints2d": middle[:, :, tf.newaxis],
            "joint_scores": scores[..., tf.newaxis],
            "mask_logits": tf.reshape(cells, [-1, K, height // 4, width // 4]),
        }


@pytest.fixture(scope="module")
def detector():
    toy = Toy()
    return serving.PersonDetector(toy.people, toy, SIDE, 4, ONE_JOINT)


def marked(height, width, *marks):
    """A black photograph with (x, y, brightness) marks."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, value in marks:
        image[y, x] = value
    return image


def test_people_are_where_they_are(detector):
    images = np.stack([marked(64, 64, (20, 30, 255), (50, 10, 128)), marked(64, 64)])
    found = detector.detect(images)
    assert found["boxes"].row_lengths().numpy().tolist() == [2, 0]
    np.testing.assert_allclose(found["scores"][0], [1, 128 / 255], atol=1e-6)
    np.testing.assert_allclose(found["poses2d"][0][:, 0], [[20, 30], [50, 10]], atol=1e-3)
    np.testing.assert_allclose(found["boxes"][0], [[16, 27, 8, 6], [46, 7, 8, 6]], atol=1e-3)


def test_dense_form_is_padded_with_zeros(detector):
    images = np.stack([marked(64, 64), marked(64, 64, (20, 30, 255), (50, 10, 128))])
    dense, ragged = detector.serve(images), detector.detect(images)
    assert dense["n_people"].numpy().tolist() == [0, 2]
    assert dense["boxes"].shape == (2, 2, 4)
    np.testing.assert_array_equal(dense["boxes"][0], 0)
    for name, value in ragged.items():
        np.testing.assert_array_equal(dense[name][1], value[1])


def test_options(detector):
    image = marked(64, 64, (20, 30, 255), (22, 31, 200), (50, 10, 90))[np.newaxis]
    n_people = lambda **options: int(detector.detect(image, **options)["scores"].row_lengths()[0])  # noqa: E731
    assert n_people(detector_nms_iou_threshold=1.0) == 3
    assert n_people(detector_nms_iou_threshold=0.3) == 2
    assert n_people(detector_nms_iou_threshold=1.0, max_detections=1) == 1
    assert n_people(detector_threshold=0.5, detector_nms_iou_threshold=1.0) == 2
    assert n_people(detector_flip_aug=True, detector_threshold=0.45) == 1  # the toy halves scores


def test_a_dropped_person_drops_nobody(detector):
    """Of three in a row the first drops the second, which overlaps the third most."""
    image = marked(64, 64, (20, 30, 255), (23, 30, 200), (26, 30, 150))[np.newaxis]
    found = detector.detect(image, detector_nms_iou_threshold=0.4)
    np.testing.assert_allclose(found["poses2d"][0][:, 0, 0], [20, 26], atol=1e-3)


class Stubborn(tf.Module):
    """Always says the same: person i has joint (i, i) and row i of the mask."""

    N = 6

    def __init__(self):
        super().__init__()
        self.boxes, self.scores = tf.Variable(tf.zeros([self.N, 4])), tf.Variable(tf.zeros(self.N))

    def people(self, images, input_from_image, flip_aug):
        del input_from_image, flip_aug
        number = tf.range(self.N, dtype=tf.float32)
        rows = tf.one_hot(tf.range(self.N), SIDE // 4)[:, :, tf.newaxis] * 2 - 1
        found = {
            "boxes": self.boxes,
            "scores": self.scores,
            "joints2d": tf.stack([number, number], axis=-1)[:, tf.newaxis],
            "joint_scores": number[:, tf.newaxis],
            "mask_logits": tf.tile(rows, [1, 1, SIDE // 4]),
        }
        n_images = tf.shape(images)[0]
        return {name: tf.repeat(value[tf.newaxis], n_images, 0) for name, value in found.items()}


@pytest.fixture(scope="module")
def stubborn():
    network = Stubborn()
    return network, serving.PersonDetector(network.people, network, SIDE, 4, ONE_JOINT)


WHOLE = [0, 0, SIDE, SIDE]
NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ([SIDE, 5, 9, 9], 0.9),
        ([5, SIDE, 9, 9], 0.9),
        ([-9, 5, 9, 9], 0.9),
        ([5, -9, 9, 9], 0.9),
        ([5, -500, 9, 9], 0.9),
        ([5, 5, 0, 9], 0.9),
        ([5, 5, 9, 0], 0.9),
        ([5, 5, 9, -1], 0.9),
        ([NAN, 5, 9, 9], 0.9),
        ([5, 5, INF, 9], 0.9),
        ([-INF, 5, INF, 9], 0.9),
        ([5, 5, 9, 9], 0.0),
        ([5, 5, 9, 9], NAN),
    ],
)
def test_what_cannot_hold_a_person_is_dropped(stubborn, box, score):
    """Before, after and between people, who keep their own joints and masks."""
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    network, detector = stubborn
    network.boxes.assign([box, WHOLE, box, [-8, -8, 9, 9], [63.5, 63.5, 30, 30], box])
    network.scores.assign([score, 0.8, score, 0.7, 0.6, score])
    everyone = {"detector_threshold": 0.0, "detector_nms_iou_threshold": 1.0}
    found = detector.detect(images, **everyone)
    size = tf.constant([SIDE, SIDE])
    checked_boxes(found["boxes"], tf.constant(2), size)  # what pose models refuse is not there
    dense = detector.serve(images)
    assert dense["n_people"].numpy().tolist() == [3, 3]
    for people in (found, dense):
        for row in range(2):
            np.testing.assert_allclose(people["scores"][row], [0.8, 0.7, 0.6])
            np.testing.assert_allclose(people["boxes"][row, 0], WHOLE)
            np.testing.assert_array_equal(people["poses2d"][row][:, 0, 0], [1, 3, 4])
            np.testing.assert_array_equal(people["joint_scores"][row][:, 0], [1, 3, 4])
        mask = people["masks"][1][0].numpy()
        assert mask[4:8].any() and not mask[:3].any() and not mask[9:].any()  # of the second
    best = detector.detect(images, **everyone | {"max_detections": 1})
    np.testing.assert_array_equal(best["poses2d"].flat_values[:, 0, 0], [1, 1])


def test_what_is_outside_drops_nobody_inside(stubborn):
    network, detector = stubborn
    network.boxes.assign([[-10, 0, 10, 5], [-10, 0, 10.5, 5], *[WHOLE] * 4])
    network.scores.assign([0.9, 0.8, 0, 0, 0, 0])
    found = detector.detect(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    np.testing.assert_allclose(found["scores"][0], [0.8])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"detector_threshold": 1.5}, "detector_threshold"),
        ({"detector_nms_iou_threshold": -0.1}, "detector_nms_iou_threshold"),
        ({"max_detections": 0}, "max_detections"),
        ({"input_side": 100}, "input_side"),
        ({"input_side": -32}, "input_side"),
    ],
)
def test_values_out_of_range_are_named(detector, option, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        detector.detect(marked(8, 8)[np.newaxis], **option)


@pytest.mark.parametrize("input_side", [-1, 0, 96])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (64, 48), (8000, 200), (200, 8000)])
def test_any_size_of_photograph(detector, size, input_side):
    found = detector.detect(np.full((1, *size, 3), 0, np.uint8), input_side=input_side)
    assert found["boxes"].row_lengths().numpy().tolist() == [0]
    assert detector.detect(np.zeros((0, *size, 3), np.uint8))["boxes"].shape[0] == 0


def test_kept_resolution_keeps_pixels(detector):
    image = marked(45, 70, (60, 12, 255), (3, 40, 200))[np.newaxis]
    found = detector.detect(image, input_side=0)
    np.testing.assert_allclose(found["scores"][0], [1, 200 / 255], atol=1e-5)
    np.testing.assert_allclose(found["poses2d"][0][:, 0], [[60, 12], [3, 40]], atol=1e-3)


def test_masks_lie_on_their_people(detector):
    image = marked(128, 96, (40, 60, 255), (41, 60, 255), (40, 61, 255), (41, 61, 255))
    found = detector.detect(image[np.newaxis], detector_threshold=0.2, max_detections=1)
    mask = found["masks"][0].numpy()
    assert mask.shape == (1, 128, 96)
    assert mask[0].any()
    y, x = np.nonzero(mask[0])
    np.testing.assert_allclose([x.mean(), y.mean()], [40.5, 60.5], atol=5)


def test_masks_end_near_their_box():
    logits = np.ones((1, 8, 8), np.float32)
    box = np.array([[8, 4, 10, 20]], np.float32)
    mask = image_masks(logits, box, np.eye(3, dtype=np.float32)[np.newaxis], 4, (32, 32))[0].numpy()
    inside = np.zeros((32, 32), bool)
    inside[1:28, 7:20] = True  # 13 by 26 px around (13, 14)
    np.testing.assert_array_equal(mask[:28, :28], inside[:28, :28])


def all_at_once(mask_logits, boxes, input_from_image, down_ratio, image_size):
    """Masks of all people in one warp: plain, but a photograph's memory a person."""
    masks = warp_affine(
        mask_logits[..., np.newaxis],
        np.array([[1 / down_ratio], [1 / down_ratio], [1]], np.float32) * input_from_image,
        image_size,
        jit_compile=False,
    )[..., 0]
    middle, half = boxes[:, :2] + boxes[:, 2:] / 2, 1.3 / 2 * boxes[:, 2:]
    y, x = (np.arange(length, dtype=np.float32) for length in image_size)
    is_row = np.abs(y - middle[:, 1:]) <= half[:, 1:]
    is_column = np.abs(x - middle[:, :1]) <= half[:, :1]
    return (masks.numpy() > 0) & is_row[:, :, np.newaxis] & is_column[:, np.newaxis]


@pytest.mark.parametrize("n_people", [0, 1, 5])
def test_masks_one_by_one_are_those_of_all_at_once(rng, n_people):
    logits = rng.normal(size=(n_people, 16, 12)).astype(np.float32)
    boxes = rng.uniform(5, 40, size=(n_people, 4)).astype(np.float32)
    maps = np.tile(np.array([[0.9, 0, -3], [0, 0.8, 2], [0, 0, 1]], np.float32), [n_people, 1, 1])
    maps[:, :2, 2] += rng.uniform(-3, 3, size=(n_people, 2))
    found = image_masks(logits, boxes, maps, 4, (70, 50))
    assert found.dtype == tf.bool and found.shape == (n_people, 70, 50)
    np.testing.assert_array_equal(found, all_at_once(logits, boxes, maps, 4, (70, 50)))
    assert found.numpy().any() == (n_people > 0)


def test_nobody_has_no_masks(stubborn):
    network, detector = stubborn
    network.scores.assign(tf.zeros(network.N))
    images = np.zeros((2, 40, 30, 3), np.uint8)
    assert detector.detect(images)["masks"].flat_values.shape == (0, 40, 30)
    assert detector.serve(images)["masks"].shape == (2, 0, 40, 30)


def test_saved_model_needs_tensorflow_alone(detector, tmp_path):
    images = np.stack([marked(64, 64, (20, 30, 255), (50, 10, 128)), marked(64, 64)])
    serving.save(detector, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    expected, found = detector.detect(images), loaded.detect(images)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].row_lengths().numpy().tolist() == [2, 0]
        np.testing.assert_allclose(
            tf.cast(found[name].flat_values, tf.float32),
            tf.cast(value.flat_values, tf.float32),
            atol=1e-5,
        )
    nobody = loaded.detect(np.zeros((2, 64, 64, 3), np.uint8))
    assert nobody["masks"].flat_values.shape == (0, 64, 64)
    assert loaded.joint_names.numpy().tolist() == [b"middle_toy"]
    assert loaded.joint_edges.shape == (0, 2)
    served = loaded.signatures["serving_default"](tf.constant(images))
    assert served["n_people"].numpy().tolist() == [2, 0]


def test_large_photographs_are_averaged():
    """A fine grid of black and white becomes grey, not one of them."""
    grid = np.indices((256, 256)).sum(axis=0)[np.newaxis, ..., np.newaxis] % 2 * 255
    shown, _ = fit_photographs(np.repeat(grid, 3, axis=-1).astype(np.uint8), 32)
    np.testing.assert_allclose(shown[0, 2:-2, 2:-2], 0.5, atol=0.01)


@pytest.mark.parametrize("size", [(100, 60), (33, 500), (7, 5)])
def test_fitting_map_points_to_where_the_picture_is(size, rng):
    """A smooth picture is found again at the mapped points."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ramp = (np.stack([x / width, y / height, 0 * x + 0.5], axis=-1) * 255).astype(np.uint8)
    shown, matrix = fit_photographs(ramp[np.newaxis], 64)
    points = rng.uniform(0.3, 0.7, size=(20, 2)) * (width - 1, height - 1)
    u, v = matrix[0].numpy()[:2, :2] @ points.T + matrix[0].numpy()[:2, 2:]
    expected = points / (width, height)
    rows, columns = np.rint(v).astype(int), np.rint(u).astype(int)
    step = 1.5 / (64 * min(1.0, min(size) / max(size))) + 0.02
    np.testing.assert_allclose(shown[0].numpy()[rows, columns, :2], expected, atol=2 * step)
