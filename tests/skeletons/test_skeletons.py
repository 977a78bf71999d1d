"""Joint sets: order, edges, mirroring, unions, maps by name, user files."""

import json

import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.skeletons import BODY_25, COCO_17, H36M_17, MADS_19, SMPL_24, Skeleton

ALL = (SMPL_24, COCO_17, H36M_17, BODY_25, MADS_19)
UNION = skeletons.get("smpl_24+coco_17")


@pytest.mark.parametrize(
    "skeleton, n_joints, n_edges",
    [(SMPL_24, 24, 23), (COCO_17, 17, 19), (H36M_17, 17, 16), (BODY_25, 25, 24), (MADS_19, 19, 18)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_sizes(skeleton, n_joints, n_edges):
    assert skeleton.n_joints == n_joints
    assert len(skeleton.edges) == n_edges


@pytest.mark.parametrize("skeleton", [*ALL, UNION], ids=lambda s: s.name)
def test_mirror_is_an_involution_that_keeps_edges(skeleton):
    mirror = skeleton.mirror_indices
    assert sorted(mirror) == list(range(skeleton.n_joints))
    assert [mirror[m] for m in mirror] == list(range(skeleton.n_joints))
    edges = {frozenset(e) for e in skeleton.edges}
    assert {frozenset((mirror[a], mirror[b])) for a, b in edges} == edges


def test_convention_joint_orders_of_the_files():
    assert SMPL_24.joint_names[:6] == ("pelv", "lhip", "rhip", "bell", "lkne", "rkne")
    assert SMPL_24.joint_names[-2:] == ("lhan", "rhan")
    assert COCO_17.joint_names[:5] == ("nose", "leye", "reye", "lear", "rear")
    assert H36M_17.joint_names[7:11] == ("tors", "neck", "head", "htop")
    assert (BODY_25.index("pelv"), BODY_25.index("lhee")) == (8, 21)
    assert MADS_19.joint_names[0] == "neck" and MADS_19.joint_names[-1] == "head"


def test_coco_edges_equal_those_of_the_annotation_files():
    published = (
        "16-14,14-12,17-15,15-13,12-13,6-12,7-13,6-7,6-8,7-9,8-10,9-11,2-3,1-2,1-3,2-4,3-5,4-6,5-7"
    )
    pairs = {frozenset(int(j) - 1 for j in pair.split("-")) for pair in published.split(",")}
    assert {frozenset(edge) for edge in COCO_17.edges} == pairs


@pytest.mark.parametrize("skeleton", [SMPL_24, H36M_17, BODY_25, MADS_19], ids=lambda s: s.name)
def test_body_edges_are_a_tree(skeleton):
    reached = {skeleton.index("pelv")}
    for _ in skeleton.edges:
        reached |= {b for a, b in skeleton.edges if a in reached}
    assert reached == set(range(skeleton.n_joints))


def test_index_lists_close_names():
    assert SMPL_24.index("lsho") == SMPL_24.index("lsho_smpl") == 16
    with pytest.raises(ValueError, match=r"'lshoulder' is not in skeleton 'smpl_24'.*lsho"):
        SMPL_24.index("lshoulder")


def test_union_keeps_homonyms_apart():
    assert UNION.n_joints == 41
    assert UNION.index("lsho_smpl") == 16
    assert UNION.index("lsho_coco") == 24 + 5
    assert skeletons.components(UNION) == {
        "smpl_24": tuple(range(24)),
        "coco_17": tuple(range(24, 41)),
    }
    assert skeletons.components(SMPL_24) == {"smpl_24": tuple(range(24))}
    assert UNION == skeletons.union(SMPL_24, COCO_17)
    assert (24 + 5, 24 + 7) in UNION.edges


def test_union_of_a_union_is_flat():
    three = skeletons.union(UNION, H36M_17)
    assert three == skeletons.get("smpl_24+coco_17+h36m_17")
    assert list(skeletons.components(three)) == ["smpl_24", "coco_17", "h36m_17"]


def test_union_refuses_what_it_cannot_keep_apart():
    with pytest.raises(ValueError, match="repeats"):
        skeletons.union(SMPL_24, SMPL_24)
    with pytest.raises(ValueError, match="suffix"):
        skeletons.union(SMPL_24, Skeleton("mine", ("hip",)))
    with pytest.raises(ValueError, match="0 skeletons"):
        skeletons.union()


def test_index_map():
    assert skeletons.index_map(COCO_17, UNION) == (-1,) * 24 + tuple(range(17))
    assert skeletons.index_map(UNION, COCO_17) == tuple(range(24, 41))
    assert skeletons.index_map(UNION, SMPL_24) == tuple(range(24))
    to_h36m = skeletons.index_map(SMPL_24, H36M_17)
    assert to_h36m[H36M_17.index("lwri")] == SMPL_24.index("lwri")
    assert to_h36m[H36M_17.index("htop")] == -1
    assert skeletons.index_map(UNION, UNION) == tuple(range(41))


def test_convert_marks_what_is_missing(rng):
    points = rng.normal(size=(3, 17, 2)).astype(np.float32)
    points[1, 5] = np.nan
    converted, validity = skeletons.convert(points, COCO_17, UNION)
    assert converted.shape == (3, 41, 2) and converted.dtype == np.float32
    assert not validity[:, :24].any() and not converted[:, :24].any()
    assert validity[:, 24:].sum() == 3 * 17 - 1 and not validity[1, 24 + 5]
    np.testing.assert_array_equal(converted[0, 24:], points[0])
    assert np.isfinite(converted).all()


def test_convert_round_trip_and_emptiness(rng):
    points = rng.normal(size=(24, 3))
    there, _ = skeletons.convert(points, SMPL_24, UNION)
    back, validity = skeletons.convert(there, UNION, SMPL_24)
    np.testing.assert_array_equal(back, points)
    assert validity.all()
    empty, validity = skeletons.convert(np.zeros((0, 24, 3)), SMPL_24, COCO_17)
    assert empty.shape == (0, 17, 3) and validity.shape == (0, 17)
    with pytest.raises(ValueError, match=r"shape \(17, 3\).*'smpl_24' needs \[..., 24, d\]"):
        skeletons.convert(np.zeros((17, 3)), SMPL_24, COCO_17)


def test_mirroring_twice_is_nothing(rng):
    points = rng.normal(size=(41, 3))
    mirror = list(UNION.mirror_indices)
    flipped = points[mirror] * [-1, 1, 1]
    np.testing.assert_array_equal(flipped[mirror] * [-1, 1, 1], points)


@pytest.mark.parametrize("skeleton", [*ALL, UNION], ids=lambda s: s.name)
def test_dict_round_trip(skeleton):
    restored = Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict())))
    assert restored == skeleton and hash(restored) == hash(skeleton)


def test_user_file(tmp_path):
    path = tmp_path / "mine.json"
    fields = {
        "name": "mine",
        "joint_names": ["hip", "knee_left", "knee_right", "left_toe", "right_toe"],
        "edges": [["hip", "knee_left"], [0, 2]],
        "suffix": "mine",
    }
    path.write_text(json.dumps(fields))
    mine = skeletons.get(str(path))
    assert mine.edges == ((0, 1), (0, 2))
    assert mine.mirror_indices == (0, 2, 1, 4, 3)
    both = skeletons.get(f"coco_17+{path}")
    assert both.name == "coco_17+mine" and both.index("hip_mine") == 17


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ("[]", "is a mapping"),
        ('{"name": "a"}', "missing \\['joint_names'\\]"),
        ('{"name": "a", "joint_names": ["b"], "joints": 1}', "unknown \\['joints'\\]"),
        ('{"name": "a", "joint_names": ["b", "b"]}', "repeats"),
        ('{"name": "a", "joint_names": []}', "empty"),
        ('{"name": "a", "joint_names": [""]}', "non-empty"),
        ('{"name": "a", "joint_names": ["b"], "edges": [["b", "c"]]}', "joint name 'c'"),
        ('{"name": "a", "joint_names": ["b"], "edges": [[0, 1]]}', "between 0 and 0"),
        ('{"name": "a", "joint_names": ["b"], "edges": [[0, 0]]}', "two different"),
    ],
)
def test_bad_user_file_names_file_and_fault(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"bad.json.*{message}"):
        skeletons.load(path)


def test_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'smpl_24'"):
        skeletons.get("smpl24")
    with pytest.raises(ValueError, match="unreadable"):
        skeletons.get("/nowhere/mine.json")
