"""Metrics of `centernet` that add up over batches; average precision is in `metrics.coco_ap`.

Conventions: pixels of the image. A person is *found* if a detection with a score of at least 0.3
overlaps its box by half (intersection over union); several detections may find one person.
"""

import tensorflow as tf

from metrabs_like.geometry.boxes import pairwise_iou

SCORE_THRESHOLD = 0.3
"""Detections from this score on are shown; released code, `vis_thresh`."""
_FOUND_IOU = 0.5


def evaluate(decoded, targets, config):
    """Measures decoded people.

    Args:
      decoded: of `decode`.
      targets: of `prepare`.
      config: `Config`.

    Returns:
      Dict name -> (sum, count): `recall_at_50_iou`, share of the people that are found;
      `precision_at_50_iou`, share of the detections that find somebody; `mean_iou` of the best
      detection of each person; of those found `joint_error_px` and `joint_error_of_box`, the
      distance of the labelled joints, the latter as a share of the box's longer side.

    Masking: slots without a person and joints without a label have no influence, NaN or not.
    """
    del config
    truth = targets["kp2d"]
    is_person, is_shown = truth["person_validity"], decoded["scores"] >= SCORE_THRESHOLD
    iou = pairwise_iou(truth["boxes"], decoded["boxes"])
    iou = tf.where(is_person[..., tf.newaxis] & is_shown[:, tf.newaxis], iou, 0.0)
    best = tf.reduce_max(iou, axis=-1)
    is_found = best >= _FOUND_IOU
    finds = tf.reduce_any(iou >= _FOUND_IOU, axis=1)
    joints = tf.gather(decoded["joints2d"], tf.argmax(iou, axis=-1), batch_dims=1)
    labelled = truth["joint_validity"] & is_found[..., tf.newaxis]
    difference = tf.where(labelled[..., tf.newaxis], joints - truth["joints2d"], 0.0)
    distance = tf.norm(difference, axis=-1)
    side = tf.reduce_max(tf.where(is_found[..., tf.newaxis], truth["boxes"][..., 2:], 1.0), -1)
    return {
        "recall_at_50_iou": (_sum(is_found), _sum(is_person)),
        "precision_at_50_iou": (_sum(finds), _sum(is_shown)),
        "mean_iou": (tf.reduce_sum(best), _sum(is_person)),
        "joint_error_px": (tf.reduce_sum(distance), _sum(labelled)),
        "joint_error_of_box": (
            tf.reduce_sum(distance / side[..., tf.newaxis]),
            _sum(labelled),
        ),
    }


def _sum(flags):
    return tf.reduce_sum(tf.cast(flags, tf.float32))
