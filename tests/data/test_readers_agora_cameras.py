import numpy as np

from metrabs_like.data.readers import agora_cameras


def test_camera_rule_by_hand():
    view = agora_cameras.view_of("ag_archviz_cam00_1", (0, 0, 0, 0))
    np.testing.assert_allclose(view.position, [-2.75, -2.65, 4.0])
    assert (view.focal_mm, view.yaw, view.pitch) == (18, 135, 30)
    # What stands straight ahead of a camera that looks down by 30 degrees is seen above the middle.
    ahead = agora_cameras.View(18, (0, 0, 0), 0.0, 30.0).camera_from_world()[:3, :3] @ [0, 0, 2]
    np.testing.assert_allclose(ahead, [0, -1, np.sqrt(3)], atol=1e-12)
    other = agora_cameras.view_of("ag_flowers_1", (100, 200, 300, 90))
    np.testing.assert_allclose(other.position, [2, -3 - 1.7, 1])
    # Yaw 90: a world point to the right of the world's forward axis lies ahead.
    right = other.camera_from_world()[:3, :3] @ [1, 0, 0]
    np.testing.assert_allclose(right, [0, 0, 1], atol=1e-12)


def test_fit_rule_by_hand():
    """The body's up is the picture's up; Yaw 90 leaves its front towards the camera."""
    view = agora_cameras.view_of("hdri", (0, 0, 0, 0))
    matrix = view.camera_from_fit((300, 20, 170), 90.0)
    np.testing.assert_allclose(matrix @ [0, 1, 0, 1], [0.2, -1, 3], atol=1e-12)
    np.testing.assert_allclose(matrix @ [0, 0, 1, 1], [0.2, 0, 2], atol=1e-12)
    turned = view.camera_from_fit((300, 20, 170), 180.0)
    np.testing.assert_allclose(turned @ [0, 0, 1, 1], [-0.8, 0, 3], atol=1e-12)
