"""Fits of synthetic people in the frame that a data set's files use."""

import cv2
import numpy as np

from metrabs_like.data.synthetic.body_model import procedural_body
from metrabs_like.geometry.body_model import posed_arrays


def in_frame(body, camera_from_frame):
    """Turns the parameters of a person into those of another frame; the posed body stays.

    Args:
      body: BodyParameters of the procedural body.
      camera_from_frame: `[3, 4]`, rigid: the frame that the fit is to be in.

    Returns:
      `(pose_rotvecs [24, 3], shape_betas [10], translation [3])`, float64.
    """
    camera_from_body = np.asarray(body.camera_from_body, np.float64)
    pose = np.asarray(body.pose_rotvecs, np.float64)
    betas, shift = np.asarray(body.shape_betas, np.float64), np.asarray(body.translation)
    root = posed_arrays(procedural_body(), np.zeros((24, 3)), betas)[1][0].astype(np.float64)
    rotation, offset = camera_from_frame[:, :3], camera_from_frame[:, 3]
    turn = rotation.T @ camera_from_body[:, :3]
    new_root = rotation.T @ (camera_from_body[:, :3] @ (root + shift) + camera_from_body[:, 3])
    new_root -= rotation.T @ offset
    turned = pose.copy()
    turned[0] = cv2.Rodrigues(turn @ cv2.Rodrigues(pose[0])[0])[0][:, 0]
    return turned, betas, new_root - root


def camera_points(body):
    """Vertices and joints of stored BodyParameters, m, camera frame."""
    posed = posed_arrays(procedural_body(), body.pose_rotvecs, body.shape_betas)
    matrix = np.asarray(body.camera_from_body, np.float64)
    return [(x + body.translation) @ matrix[:, :3].T + matrix[:, 3] for x in posed]
