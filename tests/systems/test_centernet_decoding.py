"""Decoding of maps: against the rules written out person by person, and their edges."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.centernet.decoding import activated, decode_people, to_image

_OPTIONAL = ("reg", "hm_hp", "hp_offset")


def _maps(rng, n_images=2, shape=(12, 15), n_joints=5, n_classes=1):
    """Maps of random numbers, without equal heat map values."""
    size = (n_images, *shape)
    heat = np.linspace(0.001, 0.999, int(np.prod(size)) * (n_classes + n_joints))
    heat = rng.permutation(heat).reshape(*size, n_classes + n_joints)
    maps = {
        "hm": heat[..., :n_classes],
        "wh": rng.uniform(3, 9, (*size, 2)),
        "hps": rng.normal(size=(*size, 2 * n_joints)) * 2,
        "reg": rng.random((*size, 2)),
        "hm_hp": heat[..., n_classes:] * np.linspace(0.05, 1, n_joints),
        "hp_offset": rng.random((*size, 2)),
    }
    return {name: value.astype(np.float32) for name, value in maps.items()}


def _peaks(heat, k):
    """(score, y, x, channel) of the k highest peaks of `[H, W, C]`, the highest first."""
    height, width, n_channels = heat.shape
    padded = np.pad(heat, [(1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    found = [
        (heat[y, x, c], y, x, c)
        for c in range(n_channels)
        for y in range(height)
        for x in range(width)
        if heat[y, x, c] == padded[y : y + 3, x : x + 3, c].max()
    ]
    return sorted(found, reverse=True)[:k]


def _joint(regressed, box, candidates, threshold):
    """One joint of one person: the place and the score."""
    if not candidates:
        return regressed, -1.0
    distances = [np.hypot(*(place - regressed)) for _, place in candidates]
    score, place = candidates[int(np.argmin(distances))]
    is_inside = (place >= box[:2]).all() and (place <= box[2:]).all()
    is_near = min(distances) <= 0.3 * max(box[2:] - box[:2])
    return (place if is_inside and is_near and score >= threshold else regressed), score


def _rules(maps, k, threshold=0.1):
    """The people of one image, by the rules."""
    people = []
    for score, y, x, label in _peaks(maps["hm"], k):
        center = np.array([x, y]) + (maps["reg"][y, x] if "reg" in maps else 0.5)
        half = maps["wh"][y, x] / 2
        box = np.concatenate([center - half, center + half])
        joints = maps["hps"][y, x].reshape(-1, 2) + [x, y]
        scores = np.full(len(joints), score)
        for j in range(len(joints)) if "hm_hp" in maps else ():
            candidates = [
                (s, np.array([v, u]) + (maps["hp_offset"][u, v] if "hp_offset" in maps else 0.5))
                for s, u, v, _ in _peaks(maps["hm_hp"][..., j : j + 1], k)
                if s > threshold
            ]
            joints[j], scores[j] = _joint(joints[j], box, candidates, threshold)
        people.append((box, score, joints, scores, label))
    names = ("boxes", "scores", "joints2d", "joint_scores", "classes")
    return dict(zip(names, (np.array(x) for x in zip(*people, strict=True)), strict=True))


def _assert_follows_the_rules(maps, k, **options):
    people = decode_people(maps, top_k=k, **options)
    for i in range(len(maps["hm"])):
        expected = _rules({name: value[i] for name, value in maps.items()}, k, *options.values())
        n = len(expected["scores"])
        for name, value in expected.items():
            actual = people[name][i].numpy()
            np.testing.assert_allclose(actual[:n], value, rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(people["scores"][i, n:], 0)
    return people


@pytest.mark.parametrize(
    "missing", [(), ("reg",), ("hp_offset",), ("hm_hp", "hp_offset"), _OPTIONAL]
)
def test_people_follow_the_rules(rng, missing):
    maps = {name: value for name, value in _maps(rng).items() if name not in missing}
    _assert_follows_the_rules(maps, 9)


def test_several_classes(rng):
    people = _assert_follows_the_rules(_maps(rng, n_classes=3), 9)
    assert set(np.unique(people["classes"])) == {0, 1, 2}
    assert people["classes"].dtype == tf.int32


def test_another_threshold(rng):
    maps = _maps(rng)
    plain = _assert_follows_the_rules(maps, 9)
    strict = _assert_follows_the_rules(maps, 9, joint_threshold=0.7)
    scores = strict["joint_scores"].numpy()
    assert ((scores > 0.7) | (scores == -1)).all() and (scores == -1).any()
    assert (strict["joints2d"].numpy() != plain["joints2d"].numpy()).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (3, 4)])
def test_more_people_than_cells(rng, shape):
    people = _assert_follows_the_rules(_maps(rng, shape=shape), 30)
    assert people["boxes"].shape == (2, 30, 4)
    assert all(np.isfinite(value).all() for value in people.values())


def _one_person(joint_at, score=0.9, regressed=(2.0, 0.0)):
    """One person in the middle, box 0..20; one joint and one candidate for it."""
    maps = {"hm": np.zeros([1, 21, 21, 1]), "wh": np.full([1, 21, 21, 2], 20.0)}
    maps["hps"] = np.broadcast_to(np.array(regressed), [1, 21, 21, 2]).copy()
    maps |= {"reg": np.zeros([1, 21, 21, 2]), "hp_offset": np.zeros([1, 21, 21, 2])}
    maps["hm"][0, 10, 10] = 0.8
    maps["hm_hp"] = np.zeros([1, 21, 21, 1])
    maps["hm_hp"][0, joint_at[1], joint_at[0]] = score
    return {name: value.astype(np.float32) for name, value in maps.items()}


def _first_joint(maps, **options):
    people = decode_people(maps, top_k=3, **options)
    return people["joints2d"][0, 0, 0].numpy().tolist(), float(people["joint_scores"][0, 0, 0])


def test_a_joint_moves_to_its_candidate():
    assert _first_joint(_one_person((13, 11))) == ([13, 11], np.float32(0.9))


def test_of_candidates_equally_near_the_surest_counts():
    maps = _one_person((13, 10), score=0.5)
    maps["hm_hp"][0, 10, 11] = 0.7  # the regressed joint is at (12, 10)
    assert _first_joint(maps) == ([11, 10], np.float32(0.7))
    maps["hm_hp"][0, 10, 13] = 0.9
    assert _first_joint(maps) == ([13, 10], np.float32(0.9))


def test_a_candidate_too_far_does_not_move_the_joint_but_tells_its_score():
    # reach: 0.3 of the longer side, 6 cells; the regressed joint is at (12, 10)
    assert _first_joint(_one_person((18, 10))) == ([18, 10], np.float32(0.9))
    assert _first_joint(_one_person((19, 10))) == ([12, 10], np.float32(0.9))


def test_a_candidate_outside_the_box_does_not_move_the_joint():
    maps = _one_person((12, 3))
    maps["wh"][..., 1] = 13.0  # rows 3.5 to 16.5
    maps["hps"][..., 1] = -6.0  # the regressed joint: (12, 4)
    assert _first_joint(maps) == ([12, 4], np.float32(0.9))
    maps["wh"][..., 1] = 14.0  # rows 3 to 17: the border is inside
    assert _first_joint(maps) == ([12, 3], np.float32(0.9))


def test_a_candidate_below_the_threshold_does_not_exist():
    assert _first_joint(_one_person((13, 11), score=0.1)) == ([12, 10], -1)
    assert _first_joint(_one_person((13, 11), score=0.3), joint_threshold=0.5) == ([12, 10], -1)


def test_masks_come_from_the_filter_at_the_centre(rng):
    maps = _maps(rng)
    maps["seg_feat"] = rng.normal(size=(2, 12, 15, 4)).astype(np.float32)
    maps["seg"] = rng.normal(size=(2, 12, 15, 4)).astype(np.float32)
    people = decode_people(maps, top_k=6)
    assert people["mask_logits"].shape == (2, 6, 12, 15)
    y, x = divmod(int(people["cells"][1, 2]), 15)
    expected = maps["seg_feat"][1] @ maps["seg"][1, y, x]
    np.testing.assert_allclose(people["mask_logits"][1, 2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [None, True])
def test_sizes_may_be_unknown(rng, jit_compile):
    n_traces = []
    maps = _maps(rng)
    signature = {n: tf.TensorSpec([None, None, None, m.shape[3]]) for n, m in maps.items()}

    @tf.function(input_signature=[signature], jit_compile=jit_compile, autograph=False)
    def decode(outputs):
        n_traces.append(1)
        return decode_people(outputs, top_k=7)

    for shape in [(4, 9)] if jit_compile else [(12, 15), (4, 9), (1, 1), (1, 8)]:
        maps = _maps(rng, shape=shape)
        for name, value in decode_people(maps, top_k=7).items():
            np.testing.assert_allclose(decode(maps)[name], value, rtol=1e-6, err_msg=name)
    assert len(n_traces) == 1


def test_empty_batch(rng):
    people = decode_people(_maps(rng, n_images=0), top_k=4)
    shapes = {name: tuple(value.shape) for name, value in people.items()}
    assert shapes["joints2d"] == (0, 4, 5, 2) and shapes["boxes"] == (0, 4, 4)
    moved = to_image(people, np.zeros([0, 3, 3]))
    assert moved["joints2d"].shape == (0, 4, 5, 2)


def test_missing_and_unfitting_maps(rng):
    maps = _maps(rng)
    with pytest.raises(ValueError, match=r"lacks the maps \['wh'\]"):
        decode_people({name: maps[name] for name in maps if name != "wh"})
    with pytest.raises(ValueError, match=r"lacks the maps \['seg_feat'\]"):
        decode_people(maps | {"seg": maps["hps"]})
    with pytest.raises(ValueError, match="`hps` has 10 channels and `hm_hp` 4"):
        decode_people(maps | {"hm_hp": maps["hm_hp"][..., :4]})
    with pytest.raises(ValueError, match="`wh`"):
        decode_people(maps | {"wh": maps["wh"][:, :5]})
    with pytest.raises(ValueError, match="k=0"):
        decode_people(maps, top_k=0)


def test_only_heat_maps_become_probabilities(rng):
    logits = {name: np.log(value) for name, value in _maps(rng).items() if name != "hps"}
    outputs = activated({name: tf.cast(value, tf.float16) for name, value in logits.items()})
    for name, value in outputs.items():
        expected = logits[name].astype(np.float16).astype(np.float32)
        expected = 1 / (1 + np.exp(-expected)) if name in ("hm", "hm_hp") else expected
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert value.dtype == tf.float32
    raw = activated(logits, mse_loss=True)
    np.testing.assert_array_equal(raw["hm_hp"], logits["hm_hp"])
    np.testing.assert_array_equal(raw["hm"], tf.sigmoid(logits["hm"]))


def test_to_image_moves_boxes_and_joints(rng):
    people = decode_people(_maps(rng), top_k=4)
    matrix = np.array([[[4, 0, 10.5], [0, 4, -3], [0, 0, 1]], [[2, 0, 0], [0, 2, 7], [0, 0, 1]]])
    moved = to_image(people, matrix)
    scale, shift = matrix[:, None, [0, 1], [0, 1]], matrix[:, None, :2, 2]
    np.testing.assert_allclose(
        moved["boxes"], people["boxes"] * np.tile(scale, 2) + np.tile(shift, 2), rtol=1e-6
    )
    np.testing.assert_allclose(
        moved["joints2d"], people["joints2d"] * scale[:, None] + shift[:, None], rtol=1e-6
    )
    for name in ("scores", "joint_scores", "classes"):
        np.testing.assert_array_equal(moved[name], people[name])
    back = to_image(moved, np.linalg.inv(matrix))
    np.testing.assert_allclose(back["boxes"], people["boxes"], atol=1e-4)
    with pytest.raises(ValueError, match="image_from_map"):
        to_image(people, matrix[:1])
