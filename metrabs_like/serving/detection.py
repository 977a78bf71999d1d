"""People in whole photographs, from a network that finds them in one pass.

Conventions: boxes (left, top, width, height) px; `poses2d` px of the photographs as passed; pixel
(0, 0) is the centre of the top-left pixel.
"""

from collections.abc import Callable

import tensorflow as tf

from metrabs_like.geometry.affine import INPUT_STRIDE
from metrabs_like.geometry.boxes import MASK_BOX_FACTOR, pairwise_iou
from metrabs_like.geometry.warping import warp_affine
from metrabs_like.serving.checks import checked
from metrabs_like.serving.fitting import fit_photographs
from metrabs_like.skeletons import Skeleton

_NMS_IOU = 0.7  # the published default of MeTRAbs' detector
_SCORE = 0.3  # released code of Objects as Points

Network = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict]
"""Images `[B, h, w, 3]` 0..1, `input_from_image [B, 3, 3]` and whether the mirrored image counts
too, to the people of a system's `decode`."""


class PersonDetector(tf.Module):
    """Finds people, their joints and their masks in photographs of any size.

    Works as it is and, saved by `serving.export.save`, through `tf.saved_model.load` alone.

    Attributes:
      joint_names, joint_edges: variables, string `[J]` and int32 `[E, 2]`.
      units: output name to string variable: `px`.
    """

    def __init__(self, network: Network, model, side: int, down_ratio: int, skeleton: Skeleton):
        """Wraps a network.

        Args:
          network: see `Network`. Traceable, inference mode.
          model: the `tf.keras.Model` in it; its variables are saved.
          side: px, of the square input that photographs are fitted into by default.
          down_ratio: input px per cell of `mask_logits`.
          skeleton: names of the J joints.
        """
        super().__init__(name="person_detector")
        self._network, self._model = network, model
        self._side, self._down_ratio = int(side), down_ratio
        self.joint_names = tf.Variable(skeleton.joint_names, trainable=False)
        edges = tf.reshape(tf.constant(skeleton.edges, tf.int32), [-1, 2])
        self.joint_edges = tf.Variable(edges, trainable=False, shape=edges.shape)
        self.units = {name: tf.Variable("px", trainable=False) for name in ("boxes", "poses2d")}

    @property
    def signatures(self):
        """The SavedModel's signatures: name -> function."""
        return {"serving_default": self.serve}

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, None, None, 3), tf.uint8, "images"),
            tf.TensorSpec((), tf.float32, "detector_threshold"),
            tf.TensorSpec((), tf.float32, "detector_nms_iou_threshold"),
            tf.TensorSpec((), tf.int32, "max_detections"),
            tf.TensorSpec((), tf.bool, "detector_flip_aug"),
            tf.TensorSpec((), tf.int32, "input_side"),
        ],
    )
    def detect(
        self,
        images,
        detector_threshold=_SCORE,
        detector_nms_iou_threshold=_NMS_IOU,
        max_detections=100,
        detector_flip_aug=False,
        input_side=-1,
    ):
        """Finds the people in photographs of one size.

        Args:
          images: uint8 `[B, H, W, 3]`, RGB. B may be 0.
          detector_threshold: least score, 0..1.
          detector_nms_iou_threshold: of two boxes that overlap by more than this share of their
            union, the one with the lower score is dropped; 1 keeps all.
          max_detections: people of one photograph at most.
          detector_flip_aug: average with what is seen in the mirrored photograph: slower by half.
          input_side: px, side of the square that the photographs are fitted into, a multiple of
            32; -1 for the side of the training, 0 to keep their resolution (small people, more
            time and memory).

        Returns:
          Dict of ragged tensors, a row per image, the best first, N people in it: `boxes`
          `[B, (N), 4]` px, `scores` `[B, (N)]`, `poses2d` `[B, (N), J, 2]` px, `joint_scores`
          `[B, (N), J]`; if the network has masks, `masks` bool `[B, (N), H, W]`. Nobody in the
          picture is a row without people. Every box is finite, has an area and touches its
          photograph, every score is above 0, also with `detector_threshold` 0: pose models take
          the boxes as they are.

        Raises:
          tf.errors.InvalidArgumentError: for values out of range; the message names field and
            remedy.
        """
        threshold = _share(detector_threshold, "detector_threshold")
        iou = _share(detector_nms_iou_threshold, "detector_nms_iou_threshold")
        limit = checked(max_detections, "max_detections", (max_detections >= 1, "at least 1"))
        is_side = (input_side >= -1) & ((input_side < 0) | (input_side % INPUT_STRIDE == 0))
        allowed = f"-1, 0 or a multiple of {INPUT_STRIDE} px"
        side = checked(input_side, "input_side", (is_side, allowed))
        side = tf.where(side < 0, self._side, side)
        shown, input_from_image = fit_photographs(images, side)
        people = dict(self._network(shown, input_from_image, detector_flip_aug))
        is_candidate = _can_hold_a_person(people["boxes"], people["scores"], tf.shape(images)[1:3])
        is_candidate &= people["scores"] >= threshold
        is_kept = _kept(people["boxes"], is_candidate, iou, limit)
        mask_logits = people.pop("mask_logits", None)
        found = {name: tf.ragged.boolean_mask(value, is_kept) for name, value in people.items()}
        found["poses2d"] = found.pop("joints2d")
        if mask_logits is not None:
            boxes = found["boxes"]
            maps = tf.gather(input_from_image, boxes.value_rowids())
            logits = tf.boolean_mask(mask_logits, is_kept)
            masks = image_masks(
                logits, boxes.flat_values, maps, self._down_ratio, tf.shape(images)[1:3]
            )
            found["masks"] = boxes.with_flat_values(masks)
        return found

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
    )
    def serve(self, images):
        """Answers a TF Serving request: dense, since Serving cannot return ragged tensors.

        Args:
          images: uint8 `[B, H, W, 3]`, RGB.

        Returns:
          Dict of `n_people` int32 `[B]` and, padded with zeros, what `detect` returns by its
          defaults: `boxes` `[B, N, 4]` and so on.
        """
        found = self.detect(images)
        dense = {name: value.to_tensor() for name, value in found.items()}
        return {"n_people": tf.cast(found["scores"].row_lengths(), tf.int32), **dense}


def image_masks(mask_logits, boxes, input_from_image, down_ratio, image_size):
    """Enlarges masks to their photographs, one after the other: many people need little memory.

    Args:
      mask_logits: float `[N, h, w]`, on the network's map, above 0 inside. N may be 0.
      boxes: float `[N, 4]`, px of the photograph; a mask ends at 1.3 times its box.
      input_from_image: float `[N, 3, 3]`.
      down_ratio: px of the input per cell of the map.
      image_size: int32 `[2]`, height and width of the photographs, px.

    Returns:
      bool `[N, H, W]`.

    Gradient: none, truth values.
    """
    height, width = tf.unstack(image_size)
    scale = tf.constant([[1 / down_ratio], [1 / down_ratio], [1.0]])

    def image_mask(person):
        logits, box, input_from_image = person
        # sizes keep changing: nothing for XLA
        whole = warp_affine(
            logits[tf.newaxis, ..., tf.newaxis],
            (scale * input_from_image)[tf.newaxis],
            (height, width),
            jit_compile=False,
        )[0, ..., 0]
        is_row, is_column = _is_near(box, 1, height), _is_near(box, 0, width)
        return (whole > 0) & is_row[:, tf.newaxis] & is_column

    people = [tf.cast(value, tf.float32) for value in (mask_logits, boxes, input_from_image)]
    return tf.cond(
        tf.shape(people[0])[0] > 0,
        lambda: tf.map_fn(image_mask, people, fn_output_signature=tf.bool, parallel_iterations=1),
        lambda: tf.zeros([0, height, width], tf.bool),  # nothing to stack
    )


def _is_near(box, axis, length):
    """Which of the `length` columns (axis 0) or rows (axis 1) a mask may cover."""
    middle, half = box[axis] + box[2 + axis] / 2, MASK_BOX_FACTOR / 2 * box[2 + axis]
    return tf.abs(tf.range(length, dtype=tf.float32) - middle) <= half


def _can_hold_a_person(boxes, scores, image_size):
    """Which people `[B, K]` may be there: also the black bars beside a photograph have peaks."""
    x, y, width, height = tf.unstack(boxes, axis=-1)
    bottom, right = tf.unstack(tf.cast(image_size, tf.float32))
    is_finite = tf.reduce_all(tf.math.is_finite(boxes), axis=-1)
    is_in_reach = (x < right) & (y < bottom) & (x + width > 0) & (y + height > 0)
    return is_finite & is_in_reach & (width > 0) & (height > 0) & (scores > 0)


def _kept(boxes, is_candidate, iou_threshold, limit):
    """Which candidates `[B, K]` are shown: no copy of a surer one, not too many."""
    is_kept = is_candidate
    overlap = pairwise_iou(boxes, boxes)
    rank = tf.range(tf.shape(boxes)[1])  # the best come first
    is_rival = (overlap > iou_threshold) & (rank[tf.newaxis] < rank[:, tf.newaxis])

    def suppress(i, is_kept):
        # what is dropped drops nobody else, so one after the other
        is_beaten = tf.reduce_any(is_rival[:, i] & is_kept, axis=-1, keepdims=True)
        return i + 1, is_kept & ~(is_beaten & (rank == i))

    n_people = tf.shape(boxes)[1]
    _, is_kept = tf.while_loop(lambda i, _: i < n_people, suppress, [0, is_kept])
    place = tf.cumsum(tf.cast(is_kept, tf.int32), axis=1)
    return is_kept & (place <= limit)


def _share(value, field):
    return checked(value, field, ((value >= 0) & (value <= 1), "between 0 and 1"))
