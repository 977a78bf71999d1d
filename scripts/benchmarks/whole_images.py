"""Pipeline of whole images: CPU seconds per image against decoding the pictures alone.

Numbers are CPU time of the whole process divided by images, so that images/s/core is their inverse,
whatever else the machine does. Pictures: 640 x 480, noise with the falling spectrum of photographs,
JPEG quality 90, with five people each; inputs of 512 px, placed at random as in training.
"""

import functools
import tempfile

import cv2
import numpy as np
import tensorflow as tf

from metrabs_like.data import masks, preparation, records, whole_images
from metrabs_like.geometry import warping
from metrabs_like.skeletons import COCO_17
from scripts.benchmarks.input_pipeline import _BATCH, _cpu_seconds, _photograph

_SIZE = (480, 640)
_SIDE = 512
_N_IMAGES, _N_PEOPLE = 48, 5


def rows(device: str) -> list[dict]:
    """Measures the rows of this benchmark.

    Args:
      device: "cpu" or "gpu"; the host part always runs on the CPU, the warp on the device.

    Returns:
      Rows with name, seconds (CPU time per image), images_per_second (of one core),
      baseline_seconds (decoding alone), ratio (of the baseline to it).
    """
    config = whole_images.WholeImageConfig(proc_side=_SIDE)
    with_masks = whole_images.WholeImageConfig(proc_side=_SIDE, with_masks=True)
    with tempfile.TemporaryDirectory() as folder:
        info = records.DatasetInfo(name="benchmark", kind="kp2d", skeleton=COCO_17.to_dict())
        preparation.write_dataset([_pictures], folder, info, n_processes=1, progress=False)
        warp = functools.partial(_warp, device=device)
        streams = {
            "decoding the JPEG alone": _decoding(folder),
            "host part": _train(folder, config),
            "host part with masks": _train(folder, with_masks),
            f"host part and {device} warp": map(warp, _train(folder, config)),
            "evaluation, host part": _evaluation(folder, config),
        }
        seconds = {name: _cpu_seconds(s) for name, s in streams.items()}
    baseline = seconds["decoding the JPEG alone"]
    return [
        {
            "name": f"640x480 JPEG to 512 px: {name}",
            "seconds": value,
            "images_per_second": 1 / value,
            "baseline_seconds": baseline,
            "ratio": baseline / value,
        }
        for name, value in seconds.items()
    ]


def _train(folder, config):
    sources = [f"kp2d:{folder}:{_BATCH}"]
    return iter(whole_images.make_train_dataset(sources, config, skeleton=COCO_17, seed=0))


def _evaluation(folder, config):
    dataset = whole_images.make_eval_dataset(
        folder, "kp2d", config, skeleton=COCO_17, batch_size=_BATCH
    )
    return iter(dataset.repeat())


def _warp(batch, device):
    sub = batch[whole_images.KIND]
    with tf.device(f"/{device}:0"):
        matrices = sub["window_from_input"]
        return warping.warp_affine(sub["window"], matrices, (_SIDE, _SIDE)).numpy()


def _decoding(folder):
    """The baseline: decode whole pictures and batch them, nothing else."""
    info = records.DatasetInfo.load(folder)

    def decode(serialized):
        image_bytes = records.parse_record(serialized, info.n_points)["image_bytes"]
        return tf.io.decode_jpeg(
            image_bytes, channels=3, fancy_upscaling=False, dct_method="INTEGER_FAST"
        )

    dataset = tf.data.TFRecordDataset(info.shard_paths(folder)).repeat()
    return iter(dataset.map(decode, num_parallel_calls=2).batch(_BATCH).prefetch(2))


def _pictures(shard_index):
    rng = np.random.default_rng(shard_index)
    height, width = _SIZE
    for i in range(_N_IMAGES):
        picture = _photograph(rng, _SIZE)
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        people = [_person(rng) for _ in range(_N_PEOPLE)]
        intrinsics = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
        yield records.Record(encoded, height, width, str(i), "benchmark", intrinsics, people=people)


def _person(rng):
    """Somebody of 60 to 200 px with a round mask."""
    size = rng.integers(60, 200, 2)
    low = rng.integers([0, 0], [640, 480] - size)
    mask = np.zeros(_SIZE, np.uint8)
    middle = tuple(int(v) for v in low + size // 2)
    cv2.ellipse(mask, middle, tuple(int(v) // 2 for v in size), 0, 0, 360, 255, -1)
    png, mask_box = masks.encode_mask(mask)
    points = low + rng.uniform(size=(17, 2)) * size
    return records.Person(
        np.concatenate([low, size]),
        np.zeros((17, 3)),
        np.zeros(17, bool),
        points,
        np.ones(17, bool),
        mask=png,
        mask_box=mask_box,
    )
