import io

import cv2
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from metrabs_like.data import cropping
from metrabs_like.geometry import warping

W = 48


def make_example(image_bytes, box, *, size=(90, 120), side=32, padding=0.0):
    height, width = size
    k = np.array([[[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]], np.float32)
    d = np.zeros((1, 12), np.float32)
    rotation, intrinsics = warping.crop_camera([box], k, d, side, padding=padding)
    example = {
        "image_bytes": tf.constant([image_bytes]),
        "intrinsics": tf.constant(k),
        "distortion_coeffs": tf.constant(d),
        "crop_from_camera": rotation,
        "crop_intrinsics": intrinsics,
    }
    return example, cropping.plan_windows(example, tf.constant([[height, width]]), side, W)


def decode(example, plan, fast_dct=False, **options):
    """Decodes the window and puts it on its canvas, as batching does."""
    planned = [plan[name][0] for name in ("decoder", "part", "part_size")]
    window = cropping.decode_window(example["image_bytes"][0], *planned, fast_dct, **options)
    window = window.numpy()
    assert window.shape[:2] == tuple(plan["part_size"][0].numpy())
    return np.pad(window, [(0, W - window.shape[0]), (0, W - window.shape[1]), (0, 0)])


def crop(example, plan, side=32):
    return warping.warp_images(
        decode(example, plan)[np.newaxis],
        plan["window_intrinsics"],
        example["distortion_coeffs"],
        example["crop_from_camera"],
        example["crop_intrinsics"],
        side,
        jit_compile=False,
    )[0].numpy()


def smooth_image(size=(90, 120)):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.uint8(np.stack([x * 2, y * 2, 255 - x - y], axis=-1))


def encode(image, extension=".png"):
    return cv2.imencode(extension, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 99])[1].tobytes()


def test_window_is_the_needed_part_unscaled():
    image = smooth_image()
    example, plan = make_example(encode(image), [40.0, 30, 32, 32])
    assert int(plan["decoder"][0]) == 4
    y, x, height, width = plan["part"][0].numpy()
    assert 32 <= height <= 42 and 32 <= width <= 42 and x <= 40 and y <= 30
    window = decode(example, plan)
    np.testing.assert_array_equal(window[:height, :width], image[y : y + height, x : x + width])
    assert not window[height:].any() and not window[:, width:].any()
    expected = np.array([[120, 0, 60 - x], [0, 120, 45 - y], [0, 0, 1]])
    np.testing.assert_allclose(plan["window_intrinsics"][0], expected, atol=1e-4)


@pytest.mark.parametrize("fast_dct", [False, True])
@pytest.mark.parametrize(("factor", "level"), [(1, 0), (2, 1), (4, 2), (8, 3), (16, 3)])
def test_jpeg_is_decoded_at_the_scale_of_the_crop(factor, level, fast_dct):
    size = (90 * factor, 120 * factor)
    image = cv2.resize(smooth_image(), size[::-1], interpolation=cv2.INTER_LINEAR)
    box = np.array([40.0, 30, 32, 32]) * factor
    example, plan = make_example(encode(image, ".jpg"), box, size=size)
    assert int(plan["decoder"][0]) == level
    assert np.all(plan["part_size"] <= W)
    reference, reference_plan = make_example(encode(smooth_image()), [40.0, 30, 32, 32])
    reference_crop = crop(reference, reference_plan)
    difference = crop(example, plan) - reference_crop
    assert decode(example, plan, fast_dct).any()
    # The picture is a ramp of 2 levels a px: a shift of a quarter of a pixel would show.
    assert np.abs(difference).max() < 4 / 255 and np.abs(difference.mean()) < 0.5 / 255


def test_odd_sizes_keep_scaled_windows_inside():
    size = (1081, 1923)
    image = encode(np.zeros((*size, 3), np.uint8), ".jpg")
    for box in ([1700.0, 900, 400, 400], [-300, -200, 600, 500], [0, 0, 1923, 1081]):
        example, plan = make_example(image, box, size=size)
        assert decode(example, plan).shape == (W, W, 3)


@pytest.mark.parametrize("box", [[500.0, 30, 20, 20], [-400, -400, 30, 30], [60, 900, 10, 10]])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_crop_beside_the_image_is_black(box, extension):
    example, plan = make_example(encode(smooth_image(), extension), box)
    assert decode(example, plan).shape == (W, W, 3)
    assert not crop(example, plan).any()


def test_tiny_box_and_tiny_image():
    example, plan = make_example(encode(smooth_image()), [60.0, 45, 0, 0])
    assert np.isfinite(crop(example, plan)).all()
    one = encode(np.full((1, 1, 3), 200, np.uint8))
    example, plan = make_example(one, [-0.5, -0.5, 1, 1], size=(1, 1))
    assert crop(example, plan).max() > 0.5


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "progressive"])
def test_other_colour_modes_decode_to_rgb(mode):
    grey = np.repeat(smooth_image()[..., :1], 3, axis=-1)
    image = PIL.Image.fromarray(grey)
    file = io.BytesIO()
    if mode == "progressive":
        image.save(file, "JPEG", quality=95, progressive=True)
    elif mode in ("L", "CMYK"):
        image.convert(mode).save(file, "JPEG", quality=95)
    elif mode == "P":
        image.quantize(256, dither=PIL.Image.Dither.NONE).save(file, "PNG")
    else:
        image.convert(mode).save(file, "PNG")
    example, plan = make_example(file.getvalue(), [40.0, 30, 32, 32])
    reference, reference_plan = make_example(encode(grey), [40.0, 30, 32, 32])
    np.testing.assert_allclose(crop(example, plan), crop(reference, reference_plan), atol=0.03)


def checkerboard(size, period=1):
    y, x = np.mgrid[: size[0], : size[1]] // period
    return np.uint8(255 * ((x + y) % 2))[..., np.newaxis].repeat(3, axis=-1)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(360, 480), (361, 483)])
def test_fine_black_and_white_shrinks_to_half_the_light(size, extension):
    # JPEG as it is: four times four of its blocks' pixels have one colour, so that little is lost.
    encoded = encode(checkerboard(size, 1 if extension == ".png" else 4), extension)
    box = [-10.0, -20, size[1] + 20, size[0] + 40]
    example, plan = make_example(encoded, box, size=size)
    if extension == ".jpg":
        assert int(plan["decoder"][0]) == 3
        arguments = (tf.constant([size]), 32, W)
        plan = cropping.plan_windows(dict(example), *arguments, scaled_decoding=False)
        assert int(plan["decoder"][0]) == 0
    inner = [slice(2, n - 2) for n in plan["part_size"][0].numpy()]
    light = decode(example, plan, linear_light=True)[inner[0], inner[1]]
    grey = decode(example, plan)[inner[0], inner[1]]
    # sRGB shows half the light as 188.
    assert abs(light.mean() - 187.5) < 1.5 and abs(grey.mean() - 127.5) < 1.5


def test_averages_of_light_follow_srgb():
    low, high = (np.arange(256).repeat(256), np.tile(np.arange(256), 256))
    pairs = np.stack([low, high]).reshape(2, 1, -1)
    columns = np.moveaxis(np.repeat(pairs[..., np.newaxis], 3, axis=-1), 1, 0)[0]
    shrunk = cropping._shrunk(tf.constant(np.uint8(columns)), [1, 65536], True).numpy()[0, :, 0]

    def light(level):
        x = level / 255
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)

    error = light(shrunk.astype(float)) - (light(low) + light(high)) / 2
    assert np.abs(error).max() < 0.006
    np.testing.assert_array_equal(shrunk[low == high], np.arange(256))


@pytest.mark.parametrize("linear_light", [False, True])
@pytest.mark.parametrize("level", [0, 1, 5, 100, 254, 255])
def test_constant_images_stay(level, linear_light):
    image = np.full((97, 213, 3), level, np.uint8)
    example, plan = make_example(encode(image), [0.0, 0, 213, 97], size=(97, 213))
    height, width = plan["part_size"][0].numpy()
    assert width == W
    window = decode(example, plan, linear_light=linear_light)[:height, :width]
    np.testing.assert_array_equal(window, level)


def test_light_changes_only_what_is_shrunk():
    example, plan = make_example(encode(smooth_image()), [40.0, 30, 32, 32])
    np.testing.assert_array_equal(
        decode(example, plan, linear_light=True), decode(example, plan, linear_light=False)
    )


def test_batch_of_zero():
    example, _ = make_example(b"\xff\xd8", [1.0, 2, 3, 4])
    empty = {name: value[:0] for name, value in example.items()}
    plan = cropping.plan_windows(empty, tf.zeros([0, 2], tf.int32), 32, W)
    assert plan["part"].shape == (0, 4)


def plan_affine(image_bytes, size, matrix, input_size, *, side=W, **options):
    return cropping.plan_affine_windows(
        tf.constant([image_bytes]),
        tf.constant([size]),
        tf.constant([matrix], tf.float64),
        input_size,
        side,
        **options,
    )


def warp_affine(example, plan, matrix, size):
    window_from_input = plan["window_from_image"].numpy() @ np.linalg.inv(matrix)
    return warping.warp_affine(
        decode(example, plan)[np.newaxis], window_from_input, size, jit_compile=False
    )[0].numpy()


TURNED = np.array([[0.8, -0.6, 8.0], [0.6, 0.8, -50.0], [0, 0, 1]])
MIRRORED = np.array([[-1.0, 0, 70], [0, 1, -20], [0, 0, 1]])


@pytest.mark.parametrize("matrix", [TURNED, MIRRORED])
@pytest.mark.parametrize("size", [(26, 26), (20, 34)])
def test_windows_of_affine_maps_hold_what_is_needed(matrix, size):
    image = smooth_image()
    plan = plan_affine(encode(image), (90, 120), matrix, size)
    part = plan["part"][0].numpy()
    assert np.all(part[2:] < 60) and np.all(plan["part_size"][0] == part[2:])
    shown = warp_affine({"image_bytes": [encode(image)]}, plan, matrix, size)
    expected = warping.warp_affine(
        image[np.newaxis], np.linalg.inv(matrix)[np.newaxis], size, jit_compile=False
    )
    np.testing.assert_allclose(shown, expected[0], atol=1e-4)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_windows_of_coarse_affine_maps_are_shrunk(extension):
    image = cv2.resize(smooth_image(), (480, 360), interpolation=cv2.INTER_CUBIC)
    matrix = np.diag([0.1, 0.1, 1.0])
    encoded = encode(image, extension)
    plan = plan_affine(encoded, (360, 480), matrix, (36, 48))
    assert int(plan["decoder"][0]) == (3 if extension == ".jpg" else 4)
    shown = warp_affine({"image_bytes": [encoded]}, plan, matrix, (36, 48))
    expected = warping.warp_affine(
        image[np.newaxis], np.linalg.inv(matrix)[np.newaxis], (36, 48), jit_compile=False
    )[0].numpy()
    np.testing.assert_allclose(shown[2:-2, 2:-2], expected[2:-2, 2:-2], atol=0.02)
    whole = plan_affine(encoded, (360, 480), matrix, (36, 48), scaled_decoding=False)
    assert int(whole["decoder"][0]) == (0 if extension == ".jpg" else 4)


def test_affine_maps_that_miss_the_image_and_empty_batches():
    far = np.array([[1.0, 0, -1000], [0, 1, 0], [0, 0, 1]])
    plan = plan_affine(encode(smooth_image()), (90, 120), far, (32, 32))
    assert plan["part"][0, 3] == 1
    shown = warp_affine({"image_bytes": [encode(smooth_image())]}, plan, far, (32, 32))
    assert not np.any(shown)
    none = cropping.plan_affine_windows(
        tf.zeros([0], tf.string),
        tf.zeros([0, 2], tf.int32),
        tf.zeros([0, 3, 3], tf.float64),
        (32, 32),
        W,
    )
    assert {name: tuple(t.shape) for name, t in none.items()} == {
        "decoder": (0,),
        "part": (0, 4),
        "part_size": (0, 2),
        "window_from_image": (0, 3, 3),
    }
