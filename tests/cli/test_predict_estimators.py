import types

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.cli import estimators

IMAGE = np.zeros([20, 30, 3], np.uint8)
BOXES = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])


def fake(answer, **attributes):
    """A model that answers the same whatever it is asked; an exception is raised."""

    def estimate_poses(image, boxes, **arguments):
        if isinstance(answer, Exception):
            raise answer
        return answer

    names = {"joint_names": tf.constant(["a", "b", "c"])}
    return types.SimpleNamespace(estimate_poses=estimate_poses, **{**names, **attributes})


def estimate(model, skeleton=""):
    return estimators.estimate(model, IMAGE, BOXES, np.eye(3), skeleton, 1)


def test_least_that_a_model_must_have():
    """Joint names, poses3d and poses2d; no edges, no parts, no uncertainties."""
    poses = estimate(fake({"poses3d": tf.ones([2, 3, 3]), "poses2d": tf.zeros([2, 3, 2])}))
    assert poses.skeleton.joint_names == ("a", "b", "c") and poses.skeleton.edges == ()
    assert poses.uncertainties is None and poses.poses3d.shape == (2, 3, 3)


def test_a_model_without_names_is_refused():
    with pytest.raises(ValueError, match="no attribute joint_names"):
        estimate(fake({}, joint_names=None))
    with pytest.raises(ValueError, match="--skeleton=x: .*only one set of joints, leave the flag"):
        estimate(fake({}), skeleton="x")


@pytest.mark.parametrize(
    "answer, message",
    [
        ({"poses2d": tf.zeros([2, 3, 2])}, "poses3d of shape missing, not .2, 3, 3."),
        ({"poses3d": tf.zeros([2, 4, 3]), "poses2d": tf.zeros([2, 3, 2])}, "poses3d.*2, 4, 3"),
        (
            {
                "poses3d": tf.zeros([2, 3, 3]),
                "poses2d": tf.zeros([2, 3, 2]),
                "uncertainties": tf.zeros([2, 1]),
            },
            "uncertainties of shape .2, 1., not .2, 3.",
        ),
    ],
)
def test_answers_of_another_form_are_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        estimate(fake(answer))


def test_assertions_of_the_graph_are_shown_without_their_locations():
    message = (
        "Graph execution error:\n\nDetected at node Assert defined at (most recent call last):\n"
        "assertion failed: [boxes: drop the box. It is] [[1 2 3 4]]\n\t [[{{node Assert}}]]"
    )
    error = tf.errors.InvalidArgumentError(None, None, message)
    with pytest.raises(ValueError) as caught:
        estimate(fake(error))
    assert str(caught.value) == (
        "the model refuses its input: boxes: drop the box. It is [1 2 3 4]"
    )


def test_other_arguments_are_explained():
    def narrow(image, boxes):
        raise AssertionError("not reached")

    model = fake({}, per_skeleton_joint_names={"coco_17": tf.constant(["a"])})
    model.estimate_poses = narrow
    with pytest.raises(ValueError, match="published arguments.*intrinsic_matrix, num_aug, skelet"):
        estimate(model)
