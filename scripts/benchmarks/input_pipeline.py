"""Input pipeline: CPU seconds per image against decoding whole pictures and warping those.

Numbers are CPU time of the whole process divided by images, so that images/s/core is their
inverse, whatever else the machine does. Picture: 1920 x 1080, noise with the falling spectrum of
photographs, JPEG quality 90, about 300 KB (real ones of this size had 205 to 391 KB; the denser the
file, the more the decoder's sequential part hides what a small window saves), a person of 400 px
somewhere in its middle; crops of 256 px with the default augmentation.
"""

import functools
import tempfile
import time

import cv2
import numpy as np
import tensorflow as tf

from metrabs_like.data import pipeline, preparation, records
from metrabs_like.geometry import warping
from metrabs_like.skeletons import SMPL_24

_N_IMAGES = 24
_BATCH = 16


def rows(device: str) -> list[dict]:
    """Measures the rows of this benchmark.

    Args:
      device: "cpu" or "gpu"; the host part always runs on the CPU, the warp on the device.

    Returns:
      Rows with name, seconds (CPU time per image), baseline_seconds, ratio and target.
    """
    with tempfile.TemporaryDirectory() as folder:
        large = _write(f"{folder}/large", (1080, 1920), 400)
        small = _write(f"{folder}/small", (128, 128), 90)
        config = pipeline.PipelineConfig(proc_side=256)
        window_batches = _train(large, config)
        warped_batches = map(functools.partial(_warp, side=256, device=device), window_batches)
        baseline = _cpu_seconds(iter(_whole_decoding(large).repeat()))
        host = _cpu_seconds(window_batches)
        both = _cpu_seconds(warped_batches)
        small_host = _cpu_seconds(_train(small, pipeline.PipelineConfig(proc_side=128)))
        last_pixel = _cpu_seconds(iter(_last_pixels(large)))
    photograph = "1920x1080 JPEG to 256 px crop"
    bound = "1920x1080 JPEG: its last pixel alone, what no window saves"
    return [
        _row(f"{photograph}: host part", host, baseline, ">= 3x"),
        _row(f"{photograph}: host part and {device} warp", both, baseline, ">= 2x"),
        _row(bound, last_pixel, baseline, None),
        {
            "name": "128 px image to 128 px crop: host part",
            "seconds": small_host,
            "baseline_seconds": None,
            "ratio": None,
            "target": "< 0.0005 s",
        },
    ]


def _row(name, seconds, baseline, target):
    return {
        "name": name,
        "seconds": seconds,
        "baseline_seconds": baseline,
        "ratio": baseline / seconds,
        "target": target,
    }


def _cpu_seconds(batches, n_warm=3, n_rounds=3, n_batches=8):
    """Returns the median CPU time per image."""
    for _ in range(n_warm):
        next(batches)
    times = []
    for _ in range(n_rounds):
        start = time.process_time()
        for _ in range(n_batches):
            next(batches)
        times.append((time.process_time() - start) / (n_batches * _BATCH))
    return float(np.median(times))


def _train(folder, config):
    sources = [pipeline.SourceConfig(folder, "kp3d", _BATCH)]
    return iter(pipeline.make_train_dataset(sources, config, skeleton=SMPL_24, seed=0))


def _warp(batch, side, device):
    sub = batch["kp3d"]
    with tf.device(f"/{device}:0"):
        crops = warping.warp_images(
            sub["window"],
            sub["window_intrinsics"],
            sub["distortion_coeffs"],
            sub["crop_from_camera"],
            sub["intrinsics"],
            side,
        )
    return crops.numpy()


def _whole_decoding(folder):
    """The baseline: decode the whole picture, then ImageProjectiveTransformV3."""
    info = records.DatasetInfo.load(folder)

    def crop(serialized):
        record = records.parse_record(serialized, info.n_points)
        image = tf.io.decode_jpeg(record["image_bytes"], channels=3)
        box = record["boxes"][0]
        scale = tf.reduce_max(box[2:]) * 1.25 / 256
        left, top = tf.unstack(box[:2] + box[2:] / 2 - 128 * scale)
        transform = [[scale, 0.02, left, -0.02, scale, top, 1e-6, 1e-6]]
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image[tf.newaxis],
            transforms=transform,
            output_shape=[256, 256],
            fill_value=0.0,
            interpolation="BILINEAR",
        )[0]

    dataset = tf.data.TFRecordDataset(info.shard_paths(folder)).repeat()
    return dataset.map(crop, num_parallel_calls=2).batch(_BATCH).prefetch(2)


def _last_pixels(folder):
    """The lower limit for a window in the bottom row: entropy decoding of all rows above it."""
    info = records.DatasetInfo.load(folder)

    def decode(serialized):
        image_bytes = records.parse_record(serialized, info.n_points)["image_bytes"]
        last = [1079, 1919, 1, 1]
        return tf.io.decode_and_crop_jpeg(image_bytes, last, dct_method="INTEGER_FAST")

    dataset = tf.data.TFRecordDataset(info.shard_paths(folder)).repeat()
    return dataset.map(decode, num_parallel_calls=2).batch(_BATCH).prefetch(2)


def _write(folder, size, person_px):
    """Writes a data set of pictures of one size with one person of a given height each."""
    info = records.DatasetInfo(name="benchmark", kind="kp3d", skeleton=SMPL_24.to_dict())
    task = functools.partial(_pictures, size, person_px)
    preparation.write_dataset([task], folder, info, n_processes=1, progress=False)
    return folder


def _pictures(size, person_px, shard_index):
    rng = np.random.default_rng(shard_index)
    height, width = size
    focal = 1.2 * width
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    depth = 1.7 * focal / person_px
    for i in range(_N_IMAGES):
        center = rng.uniform([0.2 * width, 0.4 * height], [0.8 * width, 0.6 * height])
        middle = [*((center - [width / 2, height / 2]) * depth / focal), depth]
        points3d = middle + rng.uniform(-0.5, 0.5, (24, 3)) * [0.7, 1.7, 0.4]
        points2d = points3d[:, :2] / points3d[:, 2:] * focal + [width / 2, height / 2]
        box = np.array([*(center - [0.25 * person_px, person_px / 2]), person_px / 2, person_px])
        valid = np.full(24, True)
        person = records.Person(box, points3d, valid, points2d, valid)
        image = cv2.imencode(".jpg", _photograph(rng, size), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        yield records.Record(
            image.tobytes(), height, width, str(i), "benchmark", intrinsics, people=[person]
        )


def _photograph(rng, size):
    """Makes noise whose amplitude falls with frequency; uint8 `[H, W, 3]`."""
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    amplitude = 1 / np.maximum(np.hypot(fx, fy), 1 / max(size)) ** 1.6
    channels = []
    for weight in (1.0, 0.3, 0.3):
        phase = np.exp(2j * np.pi * rng.uniform(size=amplitude.shape))
        plane = np.fft.irfft2(amplitude * phase, size)
        channels.append(weight * plane / plane.std())
    luma_chroma = np.stack(channels, axis=-1) * 50 + 128
    clipped = np.uint8(np.clip(luma_chroma, 0, 255))
    return cv2.cvtColor(clipped, cv2.COLOR_YCrCb2BGR)
