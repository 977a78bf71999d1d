"""Images and targets from the batches of the pipeline."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data.dataset_info import DatasetInfo
from metrabs_like.skeletons import COCO_17
from metrabs_like.systems import centernet
from tests.systems import centernet_batches

CONFIG = centernet.tiny_config()


def test_pictures_and_people_lie_on_each_other(rng):
    """A white square at the centre of a person is found at the peak of its heat map."""
    batch = centernet_batches.make_batch(rng, 4, CONFIG, share_mirrored=0.5)
    people = dict(batch["kp2d"])
    windows = np.zeros(people["window"].shape, np.uint8)
    for b, box in enumerate(people["boxes"][:, 1].numpy()):
        x, y = np.rint(box[:2] + box[2:] / 2).astype(int)
        windows[b, y - 3 : y + 4, x - 3 : x + 4] = 255
    inputs, targets = centernet.prepare({"kp2d": people | {"window": windows}}, CONFIG, None)
    for image, cell in zip(
        inputs["image"].numpy(), targets["kp2d"]["ind"][:, 1].numpy(), strict=True
    ):
        y, x = np.nonzero(image[..., 0] > 0.5)
        found = np.array([x.mean(), y.mean()]) / CONFIG.down_ratio
        side = CONFIG.map_side
        np.testing.assert_allclose(found, [cell % side + 0.5, cell // side + 0.5], atol=0.75)


def test_colours_change_only_in_training(rng):
    config = dataclasses.replace(CONFIG, photometric=True)
    batch = centernet_batches.make_batch(rng, 2, config)
    plain = centernet.prepare(batch, config, None)[0]["image"].numpy()
    changed = centernet.prepare(batch, config, tf.constant([1, 2]))[0]["image"].numpy()
    assert plain.min() >= 0 and plain.max() <= 1 + 1e-6
    assert np.abs(changed - plain).mean() > 0.01
    same = centernet.prepare(batch, CONFIG, tf.constant([1, 2]))[0]["image"].numpy()
    np.testing.assert_array_equal(same, plain)


def test_inputs_of_another_size_have_people_and_no_targets_of_a_loss(rng):
    """The whole image is shown, whatever was traced before, and without a graph."""
    made = dict(centernet_batches.make_batch(rng, 2, CONFIG)["kp2d"])
    made["window"] = np.full([2, 96, 96, 3], 255, np.uint8)
    made["window_from_input"] = np.tile(np.eye(3, dtype=np.float32), [2, 1, 1])

    def image_of(people):
        inputs, targets = centernet.prepare({"kp2d": people}, CONFIG, None)
        assert "hm" not in targets["kp2d"] and "boxes" in targets["kp2d"]
        return inputs["image"]

    traced = tf.function(image_of, reduce_retracing=True, autograph=False)
    for size in ((64, 96), (64, 64), (64, 80), (96, 32), (64, 96)):
        people = made | {"input_size": np.array([size] * 2, np.int32)}
        for image in (traced(tf.nest.map_structure(tf.constant, people)), image_of(people)):
            assert image.shape == (2, *size, 3)
            np.testing.assert_array_equal(image, tf.ones_like(image))


def test_how_images_were_placed_is_kept(rng):
    batch = centernet_batches.make_batch(rng, 2, CONFIG)
    people = dict(batch["kp2d"]) | {"image_id": np.array([b"a", b"b"])}
    _, targets = centernet.prepare({"kp2d": people}, CONFIG, None)
    for name in ("center", "scale", "angle_degrees", "is_mirrored", "image_size", "image_id"):
        np.testing.assert_array_equal(targets["kp2d"][name], people[name])
    assert targets["kp2d"]["gt_det"].shape[0] == 2


def test_batches_and_sources_of_another_kind_are_refused(rng):
    with pytest.raises(ValueError, match="kinds .'kp3d'.*'kp2d'"):
        centernet.prepare({"kp3d": {}}, CONFIG, None)
    counts = {"n_images": 3, "n_people": 3, "n_people_mask": 0}
    info = DatasetInfo(name="few", kind="kp2d", skeleton=COCO_17.to_dict(), counts=counts)
    centernet.check_source("kp2d", info, CONFIG)
    centernet.check_source("kp3d", info, CONFIG)
    with pytest.raises(ValueError, match="kind='dense' of the data set 'few'"):
        centernet.check_source("dense", info, CONFIG)
    masks = dataclasses.replace(CONFIG, segmentation="1x1")
    with pytest.raises(ValueError, match="no masks.*segmentation='1x1'"):
        centernet.check_source("kp2d", info, masks)


def test_masks_follow_a_mirrored_picture(rng):
    config = dataclasses.replace(CONFIG, segmentation="3x3")
    batch = centernet_batches.make_batch(rng, 3, config, share_mirrored=0.7)
    _, targets = centernet.prepare(batch, config, None)
    labels = targets["kp2d"]["seg"].numpy()
    assert labels.shape == (3, config.max_objects, 16, 16)
    corners = targets["kp2d"]["gt_det"][..., :4].numpy()
    for b in range(3):
        for i in range(centernet_batches.N_PEOPLE):  # whole boxes are masks here
            y, x = np.nonzero(labels[b, i] == 1)
            found = [x.min(), y.min(), x.max(), y.max()]
            np.testing.assert_allclose(found, corners[b, i], atol=1.01)
        assert (labels[b, centernet_batches.N_PEOPLE :] == 0).all()


@pytest.mark.parametrize(
    ("segmentation", "seg_loss"), [("1x1", "dice"), ("1x1", "lovasz"), ("3x3", "lovasz")]
)
def test_masks_can_be_learned(rng, segmentation, seg_loss):
    """A few steps on one batch lower the loss of masks, batch above 1 included."""
    changes = {"segmentation": segmentation, "seg_loss": seg_loss}
    config = dataclasses.replace(CONFIG, seg_channels=8, **changes)
    tf.keras.utils.set_random_seed(3)
    model = centernet.build_model(config)
    inputs, targets = centernet.prepare(centernet_batches.make_batch(rng, 2, config), config, None)
    optimizer = tf.keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update():
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss, parts = centernet.compute_loss(outputs, targets, config, 0)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return parts["seg"]

    losses = [float(update()) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    decoded = centernet.decode(model(inputs, training=False), inputs, config)
    assert decoded["mask_logits"].shape == (2, config.top_k, 16, 16)
