"""Changes of appearance: which examples change, by what, and how strongly."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import augment, randomness
from metrabs_like.data.appearance import (
    CHANGES,
    background,
    blur,
    change_appearance,
    jpeg,
    occlusion,
)

SIDE = 64
SEED = np.array([3, 14], np.int32)


def make_arguments(rng, n_images, side=SIDE):
    """Images, masks with a person in the middle, and one background and object for each."""
    mask = np.zeros((n_images, side, side, 1), np.float32)
    mask[:, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    return smooth_images(rng, n_images, side), {
        "masks": mask,
        "has_mask": np.ones(n_images, bool),
        "backgrounds": rng.integers(0, 256, (n_images, 48, 48, 3), np.uint8),
        "objects": rng.integers(0, 256, (n_images, 32, 32, 4), np.uint8),
    }


def smooth_images(rng, n_images, side=SIDE):
    """Coarse colours with fine noise, 0.1..0.9."""
    pictures = []
    for _ in range(n_images):
        coarse = cv2.resize(rng.uniform(size=(5, 5, 3)), (side, side))
        pictures.append(0.1 + 0.7 * coarse + 0.1 * rng.uniform(size=(side, side, 3)))
    return np.array(pictures, np.float32).reshape(-1, side, side, 3)


def only(name, n_images, probability=1.0):
    """Probabilities `[B, 6]` of one change."""
    probabilities = np.zeros((n_images, len(CHANGES)), np.float32)
    probabilities[:, CHANGES.index(name)] = probability
    return probabilities


def share_changed(images, changed):
    return np.mean(np.any(np.asarray(changed) != images, axis=(1, 2, 3)))


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_probability_zero_changes_nothing(rng, dtype):
    images, more = make_arguments(rng, 3)
    images = tf.cast(images, dtype)
    changed = change_appearance(images, np.zeros((3, 6), np.float32), SEED, **more)
    assert changed.dtype == dtype and changed.shape == images.shape
    np.testing.assert_array_equal(tf.cast(changed, tf.float32), tf.cast(images, tf.float32))


@pytest.mark.parametrize("name", CHANGES)
def test_each_example_has_its_own_probability(rng, name):
    images, more = make_arguments(rng, 6)
    probabilities = only(name, 6) * np.array([1, 0, 1, 0, 0, 1], np.float32)[:, np.newaxis]
    changed = change_appearance(images, probabilities, SEED, **more).numpy()
    for i, is_drawn in enumerate([1, 0, 1, 0, 0, 1]):
        assert np.any(changed[i] != images[i]) == bool(is_drawn)
    assert np.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1


@pytest.mark.parametrize("name", CHANGES)
def test_share_of_changed_examples(rng, name):
    images, more = make_arguments(rng, 400, side=16)
    changed = change_appearance(images, only(name, 400, 0.3), SEED, **more)
    # Four standard deviations of a binomial draw; small shapes may miss the crop's pixels.
    assert abs(share_changed(images, changed) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)


def test_changes_are_drawn_independently(rng):
    images, _ = make_arguments(rng, 300, side=16)
    one = [
        np.any(change_appearance(images, only(n, 300, 0.5), SEED) != images, axis=(1, 2, 3))
        for n in ("shapes", "blur", "jpeg", "colour")
    ]
    correlation = np.corrcoef(np.array(one, float)) - np.eye(4)
    assert np.abs(correlation).max() < 0.25


def test_seed_decides(rng):
    images, more = make_arguments(rng, 3)
    ones = np.ones((3, 6), np.float32)
    first = change_appearance(images, ones, SEED, **more)
    np.testing.assert_array_equal(first, change_appearance(images, ones, SEED, **more))
    other = change_appearance(images, ones, SEED + 1, **more)
    assert np.abs(first - other).mean() > 0.01


def specs_of(*arguments):
    """Specs with an unknown batch size."""
    return tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), arguments)


@pytest.mark.parametrize("name", CHANGES)
def test_same_numbers_under_xla_with_unknown_batch(rng, name):
    images, more = make_arguments(rng, 4, side=32)
    arguments = tf.nest.map_structure(tf.convert_to_tensor, (images, only(name, 4, 0.8), more))

    def change(images, probabilities, more):
        return change_appearance(images, probabilities, SEED, **more)

    traced = tf.function(
        change, input_signature=specs_of(*arguments), jit_compile=True, autograph=False
    )
    # A coefficient of JPEG may fall on the other side of one half: one block differs.
    assert np.mean(np.abs(traced(*arguments) - change(*arguments)) > 1e-4) < 0.01
    empty = tf.nest.map_structure(lambda t: t[:0], arguments)
    assert traced(*empty).shape == (0, 32, 32, 3)


def test_compiled_on_request(rng):
    for side in (SIDE, 32):
        images = smooth_images(rng, 3, side)
        some = only("shapes", 3, 0.6) + only("background", 3)
        plain = change_appearance(images, some, SEED)
        compiled = change_appearance(images, some, SEED, jit_compile=True)
        np.testing.assert_allclose(compiled, plain, atol=1e-4)
        assert np.any(plain != images)


def test_works_in_a_graph_inside_a_dataset(rng):
    images, more = make_arguments(rng, 2)
    ones = np.ones((2, 6), np.float32)
    dataset = tf.data.Dataset.from_tensors((images, more))

    @tf.autograph.experimental.do_not_convert
    def change(images, more):
        return change_appearance(images, ones, SEED, **more)

    changed = next(iter(dataset.map(change)))
    np.testing.assert_allclose(changed, change(images, more), atol=2e-2)


def test_half_precision_comes_back(rng):
    images, more = make_arguments(rng, 2)
    ones = np.ones((2, 6), np.float32)
    changed = change_appearance(tf.cast(images, tf.bfloat16), ones, SEED, **more)
    assert changed.dtype == tf.bfloat16
    wanted = change_appearance(images, ones, SEED, **more)
    assert np.abs(tf.cast(changed, tf.float32) - wanted).mean() < 0.01


def test_parts_without_material_are_left_out(rng):
    images, more = make_arguments(rng, 2)
    probabilities = only("background", 2) + only("objects", 2)
    same = change_appearance(images, probabilities, SEED, masks=more["masks"])
    np.testing.assert_array_equal(same, images)


def test_unknown_or_unequal_sides_are_refused(rng):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])], autograph=False)
    def change(images):
        return change_appearance(images, tf.zeros([tf.shape(images)[0], 6]), SEED)

    with pytest.raises(ValueError, match="known side"):
        change(smooth_images(rng, 1))
    with pytest.raises(ValueError, match=r"\(1, 32, 64, 3\)"):
        change_appearance(smooth_images(rng, 1)[:, :32], np.zeros((1, 6), np.float32), SEED)


def test_colour_alone_is_the_photometric_augmentation(rng):
    images, _ = make_arguments(rng, 3)
    changed = change_appearance(images, only("colour", 3), SEED)
    np.testing.assert_array_equal(changed, augment.photometric(tf.constant(images), SEED))


def test_background_leaves_the_person_alone(rng):
    images, more = make_arguments(rng, 4)
    more["has_mask"] = np.array([True, True, False, True])
    changed = change_appearance(images, only("background", 4), SEED, **more).numpy()
    is_person = more["masks"][..., 0] == 1
    np.testing.assert_array_equal(changed[is_person], images[is_person])
    np.testing.assert_array_equal(changed[2], images[2])
    outside = np.abs(changed - images)[[0, 1, 3]][:, : SIDE // 4 - 1]
    assert np.mean(outside > 0.02) > 0.8


def test_background_is_a_part_of_its_picture_of_matched_brightness(rng):
    images = np.full((200, 16, 16, 3), 0.4, np.float32)
    pictures = np.full((200, 20, 20, 3), 102, np.uint8)  # 0.4
    pictures[:, :, :10] = 51  # dark on the left: mirrored ones are dark on the right
    nobody = np.zeros((200, 16, 16, 1), np.float32)
    changed = background.replace_background(images, nobody, pictures, SEED).numpy()
    assert changed.min() > 0.19 and changed.max() < 0.7
    left, right = changed[:, :, 0, 0].mean(axis=1), changed[:, :, -1, 0].mean(axis=1)
    assert 0.3 < np.mean(left > right + 0.1) < 0.6 and 0.3 < np.mean(left < right - 0.1) < 0.6
    means = changed.mean(axis=(1, 2, 3))
    assert 0.3 < means.mean() < 0.4  # between the pictures' 0.3 and the crops' 0.4


def test_blend_of_a_soft_mask(rng):
    images = np.full((1, 16, 16, 3), 1.0, np.float32)
    half = np.full((1, 16, 16, 1), 0.5, np.float32)
    black = np.zeros((1, 8, 8, 3), np.uint8)
    changed = background.replace_background(images, half, black, SEED)
    np.testing.assert_allclose(changed, 0.5, atol=1e-6)


def test_shapes_cover_a_part_only():
    black = np.zeros((1500, 32, 32, 3), np.float32)
    changed = occlusion.draw_shapes(tf.constant(black), SEED).numpy()
    white = occlusion.draw_shapes(tf.constant(1 - black), SEED).numpy()
    # What is left of the picture: the shape's colour is the same on black and on white.
    covered = 1 - (white - changed).mean(axis=(1, 2, 3))
    assert covered.max() < 0.6 and 0.08 < covered.mean() < 0.2
    assert np.mean(covered > 0.005) > 0.97
    assert np.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1


def test_shapes_do_not_prefer_a_side():
    n = 3000
    black, white = tf.zeros([n, 16, 16, 3]), tf.ones([n, 16, 16, 3])
    visible = occlusion.draw_shapes(white, SEED) - occlusion.draw_shapes(black, SEED)
    covered = 1 - tf.reduce_mean(visible, axis=[0, 3]).numpy()
    assert np.abs(covered - covered[::-1]).max() < 0.05
    assert np.abs(covered - covered.T).max() < 0.05


def test_objects_have_the_drawn_size_and_place():
    n, side = 600, 64
    opaque = np.full((n, 24, 24, 4), 255, np.uint8)
    pasted = occlusion.paste_objects(tf.zeros([n, side, side, 3]), opaque, SEED).numpy()
    is_covered = pasted[..., 0] > 0.3
    x = np.arange(side)
    is_whole = ~is_covered[:, [0, -1]].any((1, 2)) & ~is_covered[:, :, [0, -1]].any((1, 2))
    sides = np.sqrt(is_covered[is_whole].sum(axis=(1, 2))) / side
    assert 0.13 < sides.min() < 0.18 and 0.45 < sides.max() < 0.53
    n_covered = is_covered.sum(axis=(1, 2))
    assert np.all(n_covered > 0)
    center = (is_covered.sum(axis=1) @ x) / n_covered / side
    assert abs(center.mean() - 0.5) < 0.03 and 0.13 < center.std() < 0.25


def test_object_lands_where_it_is_sent():
    opaque = np.zeros((2, 25, 25, 4), np.uint8)
    opaque[:, 8:17, 8:17] = 255
    places = np.array([[20.0, 40], [50, 12]], np.float32)
    black = tf.zeros([2, 64, 64, 3])
    pasted = occlusion.paste_objects(black, opaque, SEED, places=places).numpy()[..., 0]
    y, x = np.mgrid[:64, :64]
    for picture, place in zip(pasted, places, strict=True):
        center = [(picture * x).sum() / picture.sum(), (picture * y).sum() / picture.sum()]
        np.testing.assert_allclose(center, place, atol=0.05)


def test_transparent_pixels_never_show(rng):
    objects = np.full((3, 16, 16, 4), 255, np.uint8)
    objects[..., 3] = 0
    images = smooth_images(rng, 3)
    same = occlusion.paste_objects(tf.constant(images), objects, SEED)
    np.testing.assert_array_equal(same, images)


def test_blur_keeps_the_mean_and_smoothes(rng):
    images = tf.constant(smooth_images(rng, 40, side=128))
    blurred = blur.blur(images, SEED).numpy()
    # Along diagonals the mirrored border counts a little more than once.
    np.testing.assert_allclose(
        blurred.mean(axis=(1, 2)), images.numpy().mean(axis=(1, 2)), atol=2e-3
    )
    roughness = np.abs(np.diff(blurred, axis=1)).mean((1, 2, 3)) + np.abs(
        np.diff(blurred, axis=2)
    ).mean((1, 2, 3))
    before = np.abs(np.diff(images, axis=1)).mean() + np.abs(np.diff(images, axis=2)).mean()
    assert np.all(roughness < 0.98 * before)
    constant = tf.fill([4, 16, 16, 3], 0.3)
    np.testing.assert_allclose(blur.blur(constant, SEED), 0.3, atol=1e-6)


def test_blurs_have_the_drawn_widths():
    spot = np.zeros((400, 65, 65, 3), np.float32)
    spot[:, 32, 32] = 1
    scale = 256 / 65
    blurred = blur.blur(tf.constant(spot), SEED).numpy()[..., 0]
    y, x = np.mgrid[:65, :65] - 32
    xx, yy, xy = ((blurred * a * b).sum((1, 2)) for a, b in ((x, x), (y, y), (x, y)))
    low = np.sqrt((xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2) + 1e-9) * scale
    high = np.sqrt((xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy**2)) * scale
    is_motion = low < 0.1 * high
    assert 0.4 < is_motion.mean() < 0.6
    np.testing.assert_allclose(low[~is_motion], high[~is_motion], rtol=1e-2)
    for values, lowest, highest in ((high[~is_motion], 0.5, 2.5), (high[is_motion], 1.0, 3.0)):
        assert lowest * 0.99 <= values.min() < lowest * 1.1
        assert highest * 1.01 >= values.max() > highest * 0.9
    angles = np.unique(np.round(np.degrees(np.arctan2(2 * xy, xx - yy) / 2)[is_motion]))
    assert set(np.mod(angles, 180)) == {0, 45, 90, 135}


@pytest.mark.parametrize("quality", [1, 10, 25, 49, 50, 60, 95])
@pytest.mark.parametrize("shape", [(64, 64), (50, 37)])
def test_jpeg_agrees_with_a_codec(rng, quality, shape):
    image = np.uint8(np.round(255 * smooth_images(rng, 1, side=64)[0][: shape[0], : shape[1]]))
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    wanted = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    intensities = tf.constant(image[np.newaxis] / np.float32(255))
    ours = 255 * jpeg.compress(intensities, tf.constant([float(quality)]))[0].numpy()
    # The codec rounds planes and results to integers: its errors are about a grey level, and a
    # coefficient in hundreds is rounded otherwise. The artefacts themselves are larger.
    error, artefact = np.abs(ours - wanted).mean(), np.abs(wanted - image).mean()
    assert error < 1.6 and error < 0.5 * artefact


def test_jpeg_keeps_flat_greys():
    flat = tf.reshape(tf.constant([0.0, 0.5, 1.0]), [3, 1, 1, 1]) * tf.ones([3, 24, 24, 3])
    result = jpeg.compress(flat, tf.constant([50.0, 50.0, 50.0]))
    np.testing.assert_allclose(result, flat, atol=1.5 / 255)


def test_jpeg_qualities_fill_their_range(rng):
    image = np.repeat(smooth_images(rng, 1), 300, axis=0)
    errors = np.abs(jpeg.jpeg_artefacts(tf.constant(image), SEED) - image).mean(axis=(1, 2, 3))
    qualities = tf.constant([10.0, 60.0])
    strong, weak = np.abs(jpeg.compress(image[:2], qualities) - image[:2]).mean(axis=(1, 2, 3))
    assert np.isclose(errors.max(), strong, rtol=0.05) and np.isclose(errors.min(), weak, rtol=0.05)
    assert len(np.unique(np.round(errors, 6))) > 40


def test_uniform_numbers():
    numbers = randomness.uniform([4000, 2], SEED).numpy()
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.02
    other = randomness.uniform([4000, 2], randomness.split_seed(SEED, 1)).numpy()
    assert np.abs(np.corrcoef(numbers[:, 0], other[:, 0])[0, 1]) < 0.08
