"""Sides of joints and edges."""

from metrabs_like import skeletons
from metrabs_like.viz import palette


def test_sides_follow_the_names():
    skeleton = skeletons.Skeleton(
        "s", ("pelv", "lhip", "rhip", "left_ear", "right_ear", "toe_r", "toe_l", "lonely")
    )
    expected = "middle left right left right right left middle"
    assert palette.joint_sides(skeleton) == tuple(expected.split())


def test_sides_of_a_union_match_its_parts():
    union = palette.joint_sides(skeletons.get("smpl_24+coco_17"))
    parts = palette.joint_sides(skeletons.SMPL_24) + palette.joint_sides(skeletons.COCO_17)
    assert union == parts
    assert parts.count("left") == parts.count("right") > 0


def test_edges_belong_to_their_outer_end():
    sides = ("middle", "left", "right", "left")
    edges = ((0, 1), (2, 0), (1, 3), (1, 2), (0, 0))
    assert palette.edge_sides(edges, sides) == ("left", "right", "left", "middle", "middle")
    assert palette.edge_sides(edges, None) == ("middle",) * 5
