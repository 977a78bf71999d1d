"""What a record holds: an image, its camera and its people.

Conventions: metres, radians, pixels (pixel (0,0) = centre of the top-left pixel), camera frame x
right, y down, z forward.
"""

import dataclasses

import numpy as np

N_DISTORTION_COEFFS = 12


@dataclasses.dataclass
class BodyParameters:
    """A body model's parameters of one person.

    The person's points in the camera frame are `camera_from_body @ (model(pose, betas) +
    translation)`: parameters stay in the frame they were fitted in, since turning them needs the
    model.

    Attributes:
      pose_rotvecs: float32 `[24, 3]`, rad, rotation vectors in SMPL's joint order, the root first.
      shape_betas: float32 `[10]`.
      translation: float32 `[3]`, m, added after posing.
      camera_from_body: float32 `[3, 4]`, rigid, m.
    """

    pose_rotvecs: np.ndarray
    shape_betas: np.ndarray
    translation: np.ndarray
    camera_from_body: np.ndarray = dataclasses.field(
        default_factory=lambda: np.eye(3, 4, dtype=np.float32)
    )


@dataclasses.dataclass
class SurfacePoints:
    """Points of one person's surface that are marked in the image.

    Attributes:
      vertex_ids: int32 `[D, 3]`, corners of the face of the body model's mesh.
      weights: float32 `[D, 3]`, barycentric, not negative, adding up to 1.
      points2d: float32 `[D, 2]`, px, in the (distorted) image.
    """

    vertex_ids: np.ndarray
    weights: np.ndarray
    points2d: np.ndarray


@dataclasses.dataclass
class Person:
    """One annotated person of an image, in the joints of the data set's skeleton.

    Attributes:
      box: float32 `[4]`, px, (x, y, width, height) in the image.
      points3d: float32 `[P, 3]`, m, camera frame of the image.
      validity3d: bool `[P]`; an invalid point's coordinates are stored as zeros.
      points2d: float32 `[P, 2]`, px, in the (distorted) image.
      validity2d: bool `[P]`.
      mask: PNG bytes of a uint8 0/255 mask of what is visible of the person, or None.
      occlusion: share 0..1 of the person that something else hides.
      mask_box: float32 `[4]`, px, (x, y, width, height): the part of the image that the mask is
        stretched over; None is the whole image. See `masks.encode_mask`.
      body: the body model's parameters, or None.
      surface: marked points of the surface, or None.
      area: px^2 of the annotated outline, by which COCO's evaluation scales distances of joints,
        or None.
    """

    box: np.ndarray
    points3d: np.ndarray
    validity3d: np.ndarray
    points2d: np.ndarray
    validity2d: np.ndarray
    mask: bytes | None = None
    occlusion: float = 0.0
    mask_box: np.ndarray | None = None
    body: BodyParameters | None = None
    surface: SurfacePoints | None = None
    area: float | None = None


@dataclasses.dataclass
class Record:
    """One image with N >= 0 people.

    Attributes:
      image_bytes: the encoded JPEG or PNG.
      height: px.
      width: px.
      image_id: unique within the data set.
      dataset: name of the data set.
      intrinsics: float32 `[3, 3]`, px.
      distortion_coeffs: float32 `[12]`, OpenCV order, padded with zeros.
      extrinsics: float32 `[4, 4]`, world to camera, m.
      people: the annotated people.
      crowd_boxes: float32 `[C, 4]`, px, (x, y, width, height): regions with people who are not
        annotated one by one; what a detector finds there counts neither for nor against it.
    """

    image_bytes: bytes
    height: int
    width: int
    image_id: str
    dataset: str
    intrinsics: np.ndarray
    distortion_coeffs: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(N_DISTORTION_COEFFS, np.float32)
    )
    extrinsics: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(4, dtype=np.float32))
    people: list[Person] = dataclasses.field(default_factory=list)
    crowd_boxes: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, 4), np.float32)
    )


@dataclasses.dataclass(frozen=True)
class SkippedImage:
    """Stands in a reader's stream for an image that cannot be used; it is counted and named.

    Attributes:
      name: path of the image, relative to the source folder.
      reason: what is wrong with it, and what to do.
    """

    name: str
    reason: str
