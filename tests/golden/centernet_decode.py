"""Golden tests of centernet's decode, masks and soft-NMS.

People are compared bit by bit: the same float32 operations in the same order.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.affine import affine_from_placement
from metrabs_like.losses.segmentation import lovasz_hinge
from metrabs_like.systems.centernet import peaks
from metrabs_like.systems.centernet.decoding import decode_people, to_image
from metrabs_like.systems.centernet.segmentation import conditional_convolution
from metrabs_like.systems.centernet.soft_nms import soft_nms
from tests.golden import npz_cases
from tests.golden.centernet_losses import assert_stats_close, check_known, nchw, nhwc, stats
from tests.golden.closeness import assert_close

_HEADS = {"hm": "hm", "wh": "wh", "kps": "hps", "reg": "reg", "hm_hp": "hm_hp"} | {
    "hp_offset": "hp_offset"
}
# Name of a variant -> the maps that it leaves out.
_WITHOUT = {
    "full": (),
    "noreg": ("reg",),
    "nohmhp": ("hm_hp", "hp_offset"),
    "nohpoff": ("hp_offset",),
    "plain": ("reg", "hm_hp", "hp_offset"),
}


def _maps(arrays, prefix="in_"):
    """The maps of a file, by our names."""
    names = {name: ours for name, ours in _HEADS.items() if prefix + name in arrays}
    return {ours: nhwc(arrays[prefix + name]) for name, ours in names.items()}


def _columns(people):
    """Box, score, joints, class: the released code's columns of a person."""
    n_images, n_people = people["scores"].shape
    joints = np.reshape(people["joints2d"], [n_images, n_people, -1])
    classes = np.asarray(people["classes"], np.float32)
    columns = people["boxes"], np.asarray(people["scores"])[..., None], joints, classes[..., None]
    return np.concatenate(columns, axis=-1)


def _assert_same_people(actual, expected, scores, context):
    """Compares rows; among people of equal scores the order is free, at the end also the choice."""
    assert actual.shape == expected.shape, context
    for image in range(len(expected)):
        for score in np.unique(scores[image]):
            tied = scores[image] == score
            if tied.sum() > 1 and tied[-1]:
                continue
            rows = [array[image, tied] for array in (actual, expected)]
            rows = [array[np.lexsort(array.T)] for array in rows]
            np.testing.assert_array_equal(*rows, err_msg=f"{context}, image {image}")


def _check_people(people, det, name, kpscore=None):
    """Compares `det` and, where given instead, the joints' scores."""
    scores = det[..., 4]
    np.testing.assert_array_equal(people["scores"], scores, err_msg=name)
    if kpscore is not None:
        _assert_same_people(people["joint_scores"].numpy(), kpscore, scores, name)
        return
    columns = _columns(people)
    if det.shape[2] != columns.shape[2]:  # repository B: joints' scores instead of the class
        columns = np.concatenate([columns[..., :-1], people["joint_scores"]], axis=-1)
    _assert_same_people(columns, det, scores, name)


# decode_primitives.npz ----------------------------------------------------------------------------


def _primitive_cases(path):
    arrays = npz_cases.load(path)
    return [key for key in arrays if not key.endswith("_in") and key not in _GATHER_INPUTS]


_GATHER_INPUTS = ("gather_feat", "gather_ind")


def _coordinates(cells, maps, axis):
    return peaks.cell_coordinates(cells, maps.shape[2])[..., axis]


def _suppressed(arrays, key, kernel=3):
    return {"out": nchw(peaks.suppress_non_peaks(nhwc(arrays[key]), kernel))}


def _top_k(arrays):
    maps = nhwc(arrays["topk_in"])
    scores, cells, classes = peaks.top_k_over_channels(maps, arrays["topk_score"].shape[1])
    x, y = (_coordinates(cells, maps, axis) for axis in (0, 1))
    return {"score": scores, "inds": cells, "clses": classes, "ys": y, "xs": x}


def _top_k_channel(arrays):
    maps = nhwc(arrays["topk_in"])
    scores, cells = peaks.top_k_per_channel(maps, arrays["topkc_score"].shape[2])
    x, y = (_coordinates(cells, maps, axis) for axis in (0, 1))
    return {"score": scores, "inds": cells, "ys": y, "xs": x}


def _gathered(arrays):
    return {"out": peaks.gather_cells(nhwc(arrays["gather_feat"]), arrays["gather_ind"])}


_PRIMITIVES = {
    "nms": lambda arrays: _suppressed(arrays, "nms_in"),
    "nms5": lambda arrays: _suppressed(arrays, "nms_in", kernel=5),
    "nms_neg": lambda arrays: _suppressed(arrays, "nms_neg_in"),
    "topk": _top_k,
    "topkc": _top_k_channel,
    "gather": _gathered,
}


def _check_primitive(path, name):
    arrays = npz_cases.load(path)
    group, _, key = name.rpartition("_")
    check_known(path, group, _PRIMITIVES)
    results = _PRIMITIVES[group](arrays)
    check_known(path, key, results)
    np.testing.assert_array_equal(results[key], arrays[name], err_msg=name)


# decode_scene.npz, decode_multiclass.npz, decode_rule128.npz --------------------------------------


def _result_cases(path):
    arrays = npz_cases.load(path)
    own = [key for key in arrays if key.startswith(("det", "kpscore", "check_", "post_out"))]
    known = own + [key for key in arrays if key.startswith("in_")] + list(_POST_INPUTS) + ["seed"]
    return own + [key for key in arrays if key not in known]  # what is unknown fails


_POST_INPUTS = ("post_c", "post_s", "post_h", "post_w", "post_s_vec")


def _check_variant(arrays, maps, name):
    """Decodes what the name of `det_...` or `kpscore_...` says."""
    quantity, _, variant = name.partition("_")
    det = arrays[f"det_{variant}" if variant else "det"]
    left_out = _WITHOUT[variant.split("_K")[0] or "full"]
    kept = {head: value for head, value in maps.items() if head not in left_out}
    people = decode_people(kept, top_k=det.shape[1])
    _check_people(people, det, name, arrays[name] if quantity == "kpscore" else None)


def _check_scene(path, name):
    arrays = npz_cases.load(path)
    if name.startswith("post_out"):
        _check_post_processing(arrays, name)
    else:
        check_known(path, name.split("_")[0], ("det", "kpscore"))
        _check_variant(arrays, _maps(arrays), name)


def _check_post_processing(arrays, name):
    people = decode_people(_maps(arrays), top_k=arrays[name].shape[1])
    scale = arrays["post_s_vec" if name.endswith("_vec") else "post_s"]
    output_size = int(arrays["post_w"]), int(arrays["post_h"])
    image_from_map = affine_from_placement(arrays["post_c"], scale, 0.0, output_size, inverse=True)
    people = to_image(people, image_from_map)
    columns = _columns(people)[..., :-1]
    if columns.shape != arrays[name].shape:
        columns = np.concatenate([columns, people["joint_scores"]], axis=-1)
    np.testing.assert_array_equal(columns, arrays[name], err_msg=name)


def _rule_maps(arrays):
    """The maps of the README's rule; sizes from the results."""
    rng = np.random.default_rng(int(arrays["seed"]))
    n_images, _, n_columns = arrays["det_full"].shape
    n_joints, shape = (n_columns - 6) // 2, (128, 128)
    amplitudes = np.linspace(0.08, 0.9, n_joints)
    amplitudes[1] = 0.1005
    maps = {
        "hm": rng.random((n_images, 1, *shape)),
        "wh": rng.uniform(4, 40, (n_images, 2, *shape)),
        "kps": 6 * rng.standard_normal((n_images, 2 * n_joints, *shape)),
        "reg": rng.random((n_images, 2, *shape)),
        "hm_hp": amplitudes[:, None, None] * rng.random((n_images, n_joints, *shape)),
        "hp_offset": rng.random((n_images, 2, *shape)),
    }
    return {f"in_{name}": value.astype(np.float32) for name, value in maps.items()}


def _check_rule(path, name):
    arrays = npz_cases.load(path)
    maps = _rule_maps(arrays)
    quantity, _, rest = name.partition("_")
    if quantity == "check":
        own = maps[f"in_{rest}"]
        # float64 statistics of stored numbers
        np.testing.assert_allclose(
            [*stats(own), *own.ravel()[:4]], arrays[name], rtol=1e-9, atol=1e-9
        )
        return
    check_known(path, quantity, ("det", "kpscore"))
    _check_variant(arrays, _maps(maps), name)


# whole_body.npz -----------------------------------------------------------------------------------


def _whole_body_cases(path):
    inputs = ("in", "seg_feat", "seg_weight", "segloss_")
    return [
        key
        for key in npz_cases.load(path)
        if not key.startswith(inputs) or (key.startswith("inds") and key[4:].isdigit())
    ]


def _whole_body(arrays, filters, top_k):
    """People of all images in one batch: the release can decode only one at a time."""
    n_images = len(arrays["seg_feat"])
    images = [_maps(arrays, f"in{i}_") for i in range(n_images)]
    maps = {name: np.concatenate([image[name] for image in images]) for name in images[0]}
    maps |= {"seg_feat": nhwc(arrays["seg_feat"]), "seg": nhwc(arrays[filters])}
    return decode_people(maps, top_k=top_k)


def _check_whole_body(path, name):
    arrays = npz_cases.load(path)
    if name.startswith("segloss"):
        _check_mask_loss(path, arrays, name)
        return
    quantity, image = name.rstrip("0123456789"), int(name[-1])
    check_known(path, quantity, ("det", "seg", "seg1x1_", "inds"))
    det = arrays[f"det{image}"]
    filters = "seg_weight_1x1" if quantity == "seg1x1_" else "seg_weight"
    people = _whole_body(arrays, filters, det.shape[1])
    people = {key: value[image : image + 1] for key, value in people.items()}
    if quantity == "det":
        _check_people(people, det, name)
    elif quantity == "inds":
        cells = people["cells"].numpy()[..., None]
        _assert_same_people(cells, arrays[name][..., None], det[..., 4], name)
    else:
        masks = people["mask_logits"].numpy()
        step = masks.shape[2] // arrays[name].shape[2]
        assert_close(masks[:, :, ::step, ::step], arrays[name], "value", context=name)


def _check_mask_loss(path, arrays, name):
    size, _, quantity = name.removeprefix("segloss").partition("_")
    features = tf.constant(nhwc(arrays["segloss_seg_feat"]))
    maps = nhwc(arrays["segloss_weight_1x1" if size == "1x1" else "segloss_weight"])
    with tf.GradientTape() as tape:
        sources = {"grad_seg_feat": features, "grad_weight_stats": tf.constant(maps)}
        tape.watch(sources)
        filters = peaks.gather_cells(sources["grad_weight_stats"], arrays["segloss_ind"])
        logits = conditional_convolution(features, filters)
        loss = lovasz_hinge(logits, arrays["segloss_target"], symmetric=True)
    if quantity == "loss":
        assert_close(loss, arrays[name], "value", context=name)
        return
    check_known(path, quantity, sources)
    gradient = nchw(tape.gradient(loss, sources)[quantity])
    if quantity.endswith("_stats"):
        assert_stats_close(gradient, arrays[name], name)
    else:
        assert_close(gradient, arrays[name], "grad", context=name)


# soft_nms39.npz -----------------------------------------------------------------------------------

# Name of a result -> how it was made.
_SOFT_NMS = {
    "gauss": {},
    "gauss_thr": {"score_threshold": 0.05},
    "linear": {"method": "linear"},
    "linear03": {"method": "linear", "overlap_threshold": 0.3, "score_threshold": 0.01},
    "hard": {"method": "hard"},
}


def _soft_nms_cases(path):
    return [key for key in npz_cases.load(path) if key != "boxes"]


def _check_soft_nms(path, name):
    arrays = npz_cases.load(path)
    quantity, _, options = name.partition("_")
    check_known(path, quantity, ("out", "nkeep", "out5", "nkeep5"))
    n_columns = 5 if quantity.endswith("5") else arrays["boxes"].shape[1]
    rows = arrays["boxes"][np.newaxis, :, :n_columns]
    kept, counts = soft_nms(rows, **_SOFT_NMS[options])
    if quantity.startswith("nkeep"):
        assert counts.numpy() == arrays[name]
        return
    # Behind the kept rows the release leaves a mixture of dropped ones.
    n_kept = int(arrays[name.replace("out", "nkeep", 1)])
    assert_close(kept[0, :n_kept], arrays[name][:n_kept], "value", context=name)
    assert not np.any(kept[0, n_kept:])


FILES = {
    "decode_primitives": npz_cases.FileTest(_primitive_cases, _check_primitive),
    "decode_scene": npz_cases.FileTest(_result_cases, _check_scene),
    "decode_multiclass": npz_cases.FileTest(_result_cases, _check_scene),
    "decode_rule128": npz_cases.FileTest(_result_cases, _check_rule),
    "whole_body": npz_cases.FileTest(_whole_body_cases, _check_whole_body),
    "soft_nms39": npz_cases.FileTest(_soft_nms_cases, _check_soft_nms),
}
