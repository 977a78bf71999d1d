"""Golden tests of centernet's training targets, network inputs and masks.

Targets are compared bit by bit but for the Gaussians: which cell a joint falls into is decided by
the same roundings to float32.
"""

import functools
import re

import numpy as np
from pycocotools import mask as coco_masks

from metrabs_like.geometry import affine
from metrabs_like.losses.segmentation import IGNORED
from metrabs_like.systems.centernet import mask_targets, targets
from metrabs_like.systems.centernet.config import Config
from tests.golden import centernet_images, npz_cases
from tests.golden.centernet_images import (
    AFFINE_ATOL,
    GAUSSIAN_ATOL,
    assert_statistics_close,
    cases_but,
    close_to,
    normalized,
)

# Normalized grey levels: float32 pixel positions (5e-5 px) on the steepest edges.
_WARP_ATOL = 5e-4
# The same for images of uint8: half a level / 255 / 0.274. OpenCV 4.10 places by 1/32 pixel.
_WARP_CV5_ATOL, _WARP_CV4_ATOL = 0.0072 + _WARP_ATOL, 0.06
# Cells that are covered to one half within this belong to nobody in particular.
_MASK_MARGIN, _MASK_CV4_MARGIN = 1e-3, 0.04

_MAPS = ("hm", "hm_hp", "dense_hps", "dense_hps_mask")
_GAUSSIAN_MAPS = ("hm", "hm_hp", "dense_hps_mask")
_HM_GAUSS = 2  # of the files with mse_loss


def _config(arrays):
    """The options that a file was made with, as far as its arrays tell."""
    # One cell from the peak: no umich Gaussian has this value.
    neighbour = np.exp(-1 / (2 * _HM_GAUSS**2))
    maps = [arrays[name] for name in ("hm", "hm_hp") if name in arrays]
    return Config(
        dense_hp="dense_hps" in arrays,
        reg_offset="reg" in arrays,
        hm_hp="hm_hp" in arrays,
        reg_hp_offset="hp_offset" in arrays,
        mse_loss=any((np.abs(array - neighbour) < GAUSSIAN_ATOL).any() for array in maps),
        hm_gauss=_HM_GAUSS,
        max_objects=len(arrays["reg_mask"]),
    )


def _kept(arrays, with_crowds=False):
    """Indices of the annotations that become objects, as the pipeline chooses them."""
    is_kept = arrays["ann_category_id"] == 1
    if not with_crowds:
        is_kept &= arrays["ann_iscrowd"] == 0
    return np.flatnonzero(is_kept)[: len(arrays["reg_mask"])]


def _placement(arrays):
    return {
        "image_size": np.array([[arrays["meta_height"], arrays["meta_width"]]]),
        "center": arrays["meta_c"][np.newaxis],
        "scale": arrays["meta_s"][np.newaxis],
        "angle_degrees": arrays["meta_rot"][np.newaxis],
        "is_mirrored": np.array([bool(arrays["meta_flipped"])]),
    }


def _people(arrays, kept):
    """The annotations in their slots; what the slots after them hold must not matter."""
    n_empty = len(arrays["reg_mask"]) - len(kept)

    def in_slots(array, filling):
        empty = np.full((n_empty, *array.shape[1:]), filling, array.dtype)
        return np.concatenate([array[kept], empty])[np.newaxis]

    keypoints = arrays["ann_keypoints"]
    return {
        "boxes": in_slots(arrays["ann_bbox"], np.nan),
        "joints2d": in_slots(keypoints[..., :2].astype(np.float64), np.nan),
        "joint_validity": in_slots(keypoints[..., 2] > 0, True),
        "person_validity": in_slots(np.ones(len(keypoints), bool), False),
        **_placement(arrays),
    }


@functools.lru_cache(maxsize=4)
def _encoded(path, with_crowds=False):
    """All targets of a file, in the file's layout."""
    arrays = npz_cases.load(path)
    side = int(arrays["meta_output_res"])
    people = _people(arrays, _kept(arrays, with_crowds))
    options = {"map_size": (side, side), "jit_compile": False}  # compiling each file takes long
    encoded = targets.encode_targets(people, _config(arrays), **options)
    found = {name: value.numpy()[0] for name, value in encoded.items()}
    for name in _MAPS:
        if name in found:
            found[name] = np.moveaxis(found[name], -1, 0)
    drawn = found["gt_det"][found["gt_det_mask"] > 0]
    found["gt_det"] = drawn if len(drawn) else np.zeros_like(found["gt_det"][:1])
    return found


def _check_target(path, name):
    with_crowds = name.startswith("with_crowd_")
    found = _encoded(path, with_crowds)[name.removeprefix("with_crowd_")]
    expected = npz_cases.load(path)[name]
    assert found.shape == expected.shape, f"{path}, {name}: {found.shape}"
    if name.removeprefix("with_crowd_") in _GAUSSIAN_MAPS:
        np.testing.assert_allclose(found, expected, rtol=0, atol=GAUSSIAN_ATOL, err_msg=name)
        np.testing.assert_array_equal(found == 1, expected == 1, err_msg=f"{name}: peaks")
    else:
        np.testing.assert_array_equal(found, expected, err_msg=name)


def _check_crowd_changes(path, name):
    ours, crowded = _encoded(path), _encoded(path, with_crowds=True)
    changed = {key for key in ours if not np.array_equal(ours[key], crowded[key])}
    expected = set(npz_cases.load(path)[name].tolist())
    assert {key for key in changed if not key.startswith("gt_det")} == expected


def _input_map(arrays, **options):
    side = int(arrays["meta_input_res"])
    placement = _placement(arrays)
    size = placement.pop("image_size")
    if options:
        options |= {"is_mirrored": placement["is_mirrored"], "image_width": size[:, 1]}
    del placement["is_mirrored"]
    return affine.affine_from_placement(**placement, output_size=(side, side), **options)[0]


@functools.lru_cache(maxsize=2)
def _network_input(path):
    arrays = npz_cases.load(path)
    inverse = _input_map(arrays, inverse=True)
    return normalized(arrays["image_bgr"], inverse.numpy(), [arrays["meta_input_res"]] * 2)


def _check_input(path, name):
    arrays, found = npz_cases.load(path), _network_input(path)
    if name == "input_stats":
        assert_statistics_close(found, arrays[name], f"{path}, {name}")
        return
    tolerances = {"cv5": _WARP_CV5_ATOL, "cv4": _WARP_CV4_ATOL, "exact": _WARP_ATOL}
    stride = int(arrays["input_sub_stride"])
    np.testing.assert_allclose(
        found[:, ::stride, ::stride],
        arrays[name],
        rtol=0,
        atol=tolerances[name.split("_")[1]],
        err_msg=f"{path}, {name}",
    )


@functools.lru_cache(maxsize=2)
def _warped_masks(path):
    arrays = npz_cases.load(path)
    height, width = int(arrays["meta_height"]), int(arrays["meta_width"])
    polygons = [[arrays["ann_polygon"][k].tolist()] for k in _kept(arrays)]
    encoded = [coco_masks.merge(coco_masks.frPyObjects(p, height, width)) for p in polygons]
    masks = [coco_masks.decode(mask) for mask in encoded]
    masks = 255 * np.reshape(masks, (1, -1, height, width))
    n, side = masks.shape[1], int(arrays["meta_output_res"])
    people = {
        "masks": masks.astype(np.uint8),
        "mask_boxes": np.tile([-0.5, -0.5, width, height], (1, n, 1)),
        "mask_validity": np.ones((1, n), bool),
        **_placement(arrays),
    }
    return mask_targets.warp_masks(people, (side, side), jit_compile=False)[0].numpy()


def _check_masks(path, name):
    arrays, warped = npz_cases.load(path), _warped_masks(path)
    is_clear = np.abs(warped - 0.5) > (_MASK_CV4_MARGIN if "cv4" in name else _MASK_MARGIN)
    assert warped.shape == arrays[name].shape and is_clear.mean() > 0.95
    labels = (warped > 0.5).astype(np.uint8)
    if name == "seg":
        labels = _with_released_windows(labels, _encoded(path))
    np.testing.assert_array_equal(labels[is_clear], arrays[name][is_clear], err_msg=name)


def _with_released_windows(labels, encoded):
    """What the released code keeps of the labels: its windows' corners are doubled (ours not)."""
    labels, side = labels.copy(), labels.shape[1]
    for n, label in enumerate(labels):
        if not encoded["gt_det_mask"][n]:
            label[:] = 0
            continue
        y, x = divmod(encoded["ind"][n], side)
        center = encoded["reg"][n] + [x, y]
        ends = [center + sign * 1.3 * encoded["wh"][n] / 2 for sign in (-1, 1)]
        (left, top), (right, bottom) = (np.clip(ends, 0, side - 1) * 2).astype(int)
        is_ignored = np.ones(label.shape, bool)
        is_ignored[top:bottom, left:right] = False
        label[is_ignored] = IGNORED
    return labels


_TARGETS_INPUTS = r"ann_.*|meta_.*|image_bgr|input_sub_stride"
_TARGET_NAMES = (
    "(with_crowd_)?(hm|hm_hp|wh|reg|ind|reg_mask|hps|hps_mask|hp_offset|hp_ind|hp_mask|"
    "dense_hps|dense_hps_mask)|gt_det"
)
_TARGET_CHECKS = {
    _TARGET_NAMES: _check_target,
    "official_with_crowd_changes": _check_crowd_changes,
    "input_((cv5|cv4|exact)_sub|stats)": _check_input,
    "seg|seg_warped(_cv4)?": _check_masks,
}


def _check_targets(path, name):
    if name == "trans_input":
        close_to(AFFINE_ATOL, lambda arrays, _: _input_map(arrays)[:2])(npz_cases.load(path), name)
        return
    known = [check for names, check in _TARGET_CHECKS.items() if re.fullmatch(names, name)]
    assert known, f"{path}: no test compares {name!r}"
    known[0](path, name)


FILES = centernet_images.FILES | {
    "targets": npz_cases.FileTest(cases_but(_TARGETS_INPUTS), _check_targets),
}
