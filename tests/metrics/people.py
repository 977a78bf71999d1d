"""Random annotated people, and detections that find most of them."""

import numpy as np

from metrabs_like.skeletons import COCO_17


def make_image(rng, image_id, n_people, *, skeleton=COCO_17, n_crowds=0):
    """An image of 640 x 480 px in the form of `coco_content.ground_truth_content`."""
    low = rng.uniform([0, 0], [500, 360], (n_people, 2))
    boxes = np.concatenate([low, rng.uniform(20, 130, (n_people, 2))], axis=1)
    share = rng.uniform(size=(n_people, skeleton.n_joints, 2))
    crowds = np.concatenate([rng.uniform(0, 300, (n_crowds, 2)), np.full((n_crowds, 2), 150)], 1)
    return {
        "image_id": image_id,
        "image_size": (480, 640),
        "boxes": boxes,
        "joints2d": boxes[:, np.newaxis, :2] + share * boxes[:, np.newaxis, 2:],
        "joint_validity": rng.uniform(size=(n_people, skeleton.n_joints)) < 0.7,
        "areas": 0.6 * np.prod(boxes[:, 2:], axis=1),
        "crowd_boxes": crowds,
    }


def detect(rng, image, *, noise=3.0, n_false=3):
    """Detections of an image: its people moved a little, and some false ones."""
    n = len(image["boxes"]) + n_false
    boxes = np.concatenate([image["boxes"], rng.uniform(10, 200, (n_false, 4))])
    n_joints = image["joints2d"].shape[1]
    joints = np.concatenate([image["joints2d"], rng.uniform(0, 400, (n_false, n_joints, 2))])
    return {
        "boxes": boxes + rng.normal(0, noise, boxes.shape) * [1, 1, 0.5, 0.5],
        "scores": rng.uniform(size=n),
        "joints2d": joints + rng.normal(0, noise, joints.shape),
        "joint_scores": rng.uniform(size=(n, n_joints)),
    }


def make_set(rng, *, ids=range(100, 106), skeleton=COCO_17):
    """`(images, detections)` of some images, among them one without people, one with a crowd."""
    numbers = [3, 0, 1, 5, 2, 4]
    images = [
        make_image(rng, image_id, n, skeleton=skeleton, n_crowds=int(i == 2))
        for i, (image_id, n) in enumerate(zip(ids, numbers, strict=True))
    ]
    images[3]["joint_validity"][0] = False  # somebody without a labelled joint
    return images, {image["image_id"]: detect(rng, image) for image in images}
