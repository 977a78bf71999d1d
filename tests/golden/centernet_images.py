"""Golden tests of centernet's affine maps, Gaussians, colours and test-time sizes."""

import re

import cv2
import numpy as np

from metrabs_like.data.appearance import eigen_colour
from metrabs_like.geometry import affine, warping
from metrabs_like.systems.centernet import gaussians
from tests.golden import npz_cases

# px; both solve in float64, the reference by elimination.
AFFINE_ATOL = 1e-9
# Products of two float32 numbers below 1, where the reference rounds once.
GAUSSIAN_ATOL = 2.5e-7
# Some float32 operations on numbers around 1.
_COLOUR_ATOL = 2e-6
# Means over images of uint8 against unrounded ones, relative to the mean absolute value.
STATS_RTOL = 3e-4
# The released code's options and demos; BGR.
_MEAN, _STDEV = np.array([0.408, 0.447, 0.470]), np.array([0.289, 0.274, 0.278])


def cases_but(inputs):
    """Returns a function that lists the keys of a file that are no inputs."""

    def cases(path):
        return [key for key in npz_cases.load(path) if not re.fullmatch(inputs, key)]

    return cases


def check_with(quantities):
    """Returns a check that compares what `quantities` (pattern -> function) compute."""

    def check(path, name):
        known = [function for pattern, function in quantities if re.fullmatch(pattern, name)]
        assert known, f"{path}: no test compares {name!r}"
        known[0](npz_cases.load(path), name)

    return check


def close_to(atol, compute):
    """Returns a function that compares what `compute(arrays, name)` gives with the file."""

    def check(arrays, name):
        actual = np.asarray(compute(arrays, name))
        assert actual.shape == arrays[name].shape, f"{name}: {actual.shape}"
        if arrays[name].dtype.kind == "U" or atol == 0:
            np.testing.assert_array_equal(actual, arrays[name], err_msg=name)
        else:
            np.testing.assert_allclose(actual, arrays[name], rtol=0, atol=atol, err_msg=name)

    return check


# image_utils.npz ----------------------------------------------------------------------------------


def _affine_case(arrays, i):
    """The map of one case; scalars and vectors, both directions."""
    scale = arrays["aff_scale"][i : i + 1]
    return affine.affine_from_placement(
        arrays["aff_center"][i : i + 1],
        scale if arrays["aff_scale_is_vector"][i] else scale[:, 0],
        arrays["aff_rot"][i : i + 1],
        arrays["aff_output_size"][i],
        shift=arrays["aff_shift"][i : i + 1],
        inverse=bool(arrays["aff_inv"][i]),
    )


def _affine_matrices(arrays, _):
    n = len(arrays["aff_center"])
    return np.concatenate([_affine_case(arrays, i) for i in range(n)])[:, :2]


def _affine_points(arrays, _):
    points = arrays["aff_points"]
    cases = [(_affine_case(arrays, i), points[i : i + 1]) for i in range(len(points))]
    return np.concatenate([affine.transform_points(*case) for case in cases])


def _predictions(arrays, _):
    center = arrays["tp_center"]
    coords = np.tile(arrays["tp_coords"], (len(center), 1, 1))
    return affine.transform_preds(coords, center, arrays["tp_scale"], arrays["tp_output_size"])


def _radius(arrays, overlap=0.7):
    return gaussians.gaussian_radius(arrays["gr_h"], arrays["gr_w"], overlap).numpy()


def _whole_radius(arrays, _):
    return np.maximum(_radius(arrays).astype(np.int64), 0)


def _gaussian(_, name):
    return gaussians.gaussian2D(int(name.removeprefix("g2d_r")))


def _stacked(name, *arrays):
    """As a batch of one map with all Gaussians, or with `each` as many maps of one."""
    shape = (-1, 1) if name.endswith("each") else (1, -1)
    return [array.reshape(*shape, *array.shape[1:]) for array in arrays]


def _drawn(draw, arrays, name, keys):
    """Draws all Gaussians of a file into maps of the expected size."""
    centers, *others = _stacked(name, *(arrays[key] for key in keys))
    others = [x.astype(np.int32 if x.dtype.kind == "i" else np.float32) for x in others]
    is_drawn = np.ones((*centers.shape[:2], 1), bool)
    size = arrays[name].shape[-2:]
    maps = draw(centers[:, :, np.newaxis], others[0], is_drawn, size, *others[1:])
    return maps[..., 0] if name.endswith("each") else maps[0, ..., 0]


def _umich(arrays, name):
    keys = ("um_centers", "um_radii", "um_k")
    return _drawn(gaussians.draw_umich_gaussians, arrays, name, keys)


def _msra(arrays, name):
    return _drawn(gaussians.draw_msra_gaussians, arrays, name, ("ms_centers", "ms_sigma"))


def _dense_heatmap(arrays, name):
    return _drawn(gaussians.draw_umich_gaussians, arrays, name, ("dr_centers", "dr_radii"))


def _dense(arrays, name):
    """After each person, all people so far: a batch with ever more people."""
    n = len(arrays["dr_centers"])
    is_object = np.tri(n, dtype=bool)
    tiled = [np.tile(arrays[key], (n, *[1] * arrays[key].ndim)) for key in _DENSE_KEYS]
    dense = gaussians.dense_regression(
        tiled[0],
        tiled[1].astype(np.int32),
        tiled[2][:, :, np.newaxis],
        is_object,
        is_object[..., np.newaxis],
        arrays["dr_heatmap"].shape,
        is_offset=name == "dr_reg_steps",
    )
    dense = np.moveaxis(dense[..., 0, :], -1, 1)
    return dense if name == "dr_reg_steps" else dense[-1]


_DENSE_KEYS = ("dr_centers", "dr_radii", "dr_values")


def _coloured(arrays, _):
    order = arrays["ca_order"].astype(np.int32)
    images = np.tile(arrays["ca_input"][..., ::-1], (len(order), 1, 1, 1))
    alphas, lighting = arrays["ca_alpha"], arrays["ca_light_alpha"]
    return eigen_colour.change_colours(images, order, alphas, lighting)[..., ::-1]


def _grey(arrays, _):
    """An image without its saturation."""
    images = arrays["ca_input"][np.newaxis, ..., ::-1]
    alphas = [[1.0, 1.0, 0.0]]
    return eigen_colour.change_colours(images, [[0, 1, 2]], alphas, np.zeros((1, 3)))[0, ..., 0]


def _principal_colours(arrays, _):
    """What lighting of one adds, undone by the eigenvalues."""
    black = np.zeros((3, 1, 1, 3), np.float32)
    alphas = np.ones((3, 3))
    order = np.zeros((3, 3), np.int32)
    added = eigen_colour.change_colours(black, order, alphas, np.eye(3))[:, 0, 0, ::-1]
    return np.transpose(added / arrays["ca_eig_val"][:, np.newaxis])


_IMAGE_UTILS = (
    ("aff_matrix", close_to(AFFINE_ATOL, _affine_matrices)),
    ("aff_points_out", close_to(AFFINE_ATOL, _affine_points)),
    ("tp_out", close_to(AFFINE_ATOL, _predictions)),
    ("gr_radius", close_to(1e-9, lambda arrays, _: _radius(arrays))),
    ("gr_radius_overlap05", close_to(1e-9, lambda arrays, _: _radius(arrays, 0.5))),
    ("gr_int", close_to(0, _whole_radius)),
    (r"g2d_r\d+", close_to(1e-15, _gaussian)),
    ("um_(each|accum)", close_to(GAUSSIAN_ATOL, _umich)),
    ("ms_(each|accum)", close_to(GAUSSIAN_ATOL, _msra)),
    ("dr_heatmap", close_to(GAUSSIAN_ATOL, _dense_heatmap)),
    ("dr_reg_(steps|no_offset)", close_to(0, _dense)),
    ("ca_output", close_to(_COLOUR_ATOL, _coloured)),
    ("ca_gray", close_to(_COLOUR_ATOL, _grey)),
    ("ca_eig_vec", close_to(1e-5, _principal_colours)),
    ("ca_order_names", close_to(0, lambda *_: np.array(eigen_colour.STEPS))),
)
_IMAGE_UTILS_INPUTS = (
    "aff_(center|scale|scale_is_vector|rot|output_size|shift|inv|points)|gr_[hw]|"
    "tp_(coords|center|scale|output_size)|um_(centers|radii|k)|ms_(centers|sigma)|"
    "dr_(centers|values|radii)|ca_(input|order|alpha|light_alpha|seeds|eig_val)"
)


# pre_process.npz ----------------------------------------------------------------------------------

_COLUMNS = {
    "center": ("c_x", "c_y"),
    "scale": ("s_0", "s_1"),
    "map_size": ("out_height", "out_width"),
    "input_size": ("inp_h", "inp_w"),
}


def _rows(arrays):
    """Yields each row as a dict, with our sizes."""
    names = [str(name) for name in arrays["columns"]]
    for values in arrays["table"]:
        row = dict(zip(names, values, strict=True))
        size = [[int(row["image_h"]), int(row["image_w"])]]
        found = affine.pre_process(size, row["scale"], fix_resolution=bool(row["fix_res"]))
        yield row, {name: value.numpy()[0] for name, value in found.items()}


def _check_sizes(arrays, _):
    compared = {name for names in _COLUMNS.values() for name in names}
    known = compared | {"image_h", "image_w", "scale", "fix_res", "s_ndim"}
    assert set(arrays["columns"]) == known
    for row, found in _rows(arrays):
        for name, columns in _COLUMNS.items():
            expected = [row[column] for column in columns]
            np.testing.assert_array_equal(found[name], expected, err_msg=f"{name}: {row}")


def _input_maps(arrays, _):
    return np.stack([found["input_from_resized"][:2] for _, found in _rows(arrays)])


def _check_image_statistics(arrays, name):
    rule = "uint8(clip(128+100*sin(0.05*1*x+0.07*y+[0,1,2]),0,255))"
    assert str(arrays["image_rule"]) == rule, f"unknown rule {arrays['image_rule']}"
    for (row, found), expected in zip(_rows(arrays), arrays[name], strict=True):
        y, x = np.mgrid[: int(row["image_h"]), : int(row["image_w"])][..., np.newaxis]
        image = np.clip(128 + 100 * np.sin(0.05 * x + 0.07 * y + [0, 1, 2]), 0, 255)
        resized = cv2.resize(image.astype(np.uint8), found["resized_size"][::-1].tolist())
        inverse = np.linalg.inv(found["input_from_resized"])
        assert_statistics_close(
            normalized(resized, inverse, found["input_size"]), expected, f"{row}"
        )


_PRE_PROCESS = (
    ("table", _check_sizes),
    ("trans_input", close_to(AFFINE_ATOL, _input_maps)),
    ("images_stats", _check_image_statistics),
)


def normalized(image, image_from_input, size):
    """Returns the network's input `[3, H, W]` of a BGR image; without XLA, each size is another."""
    size = tuple(int(n) for n in size)
    warp = warping.warp_affine(
        image[np.newaxis], image_from_input[np.newaxis], size, jit_compile=False
    )
    return np.moveaxis((warp[0].numpy().astype(np.float64) - _MEAN) / _STDEV, -1, 0)


def assert_statistics_close(array, expected, context):
    """Compares sum, mean, deviation, largest value and sum of squares."""
    largest = np.abs(array).max()
    found = [array.sum(), array.mean(), array.std(), largest, np.square(array).sum()]
    scale = [np.abs(array).sum(), np.abs(array).mean(), *expected[2:]]
    error = np.abs(np.subtract(found, expected)) / scale
    assert error.max() < STATS_RTOL, f"{context}: {found}, reference {expected}"


FILES = {
    "image_utils": npz_cases.FileTest(cases_but(_IMAGE_UTILS_INPUTS), check_with(_IMAGE_UTILS)),
    "pre_process": npz_cases.FileTest(cases_but("columns|image_rule"), check_with(_PRE_PROCESS)),
}
