"""Colours of body sides: the same in overlays and 3D plots, whatever the depth.

Conventions: RGB, 0..255. Left and right are the person's own. The three hues stay apart under the
common forms of colour blindness (Okabe and Ito's palette).
"""

SIDE_COLORS = {"left": (240, 140, 0), "right": (40, 160, 255), "middle": (240, 240, 240)}
REFERENCE_COLOR = (120, 120, 120)
#: Boxes and labels of people, in order of appearance, then again from the start.
PERSON_COLORS = ((0, 200, 120), (204, 121, 167), (240, 228, 66), (213, 94, 0), (86, 180, 233))


def joint_sides(skeleton):
    """Tells for each joint on which side of the body it is.

    Args:
      skeleton: `skeletons.Skeleton`; its mirror pairs and their names decide.

    Returns:
      Tuple of "left", "right" or "middle", one per joint.
    """
    names = skeleton.joint_names
    return tuple(
        "middle" if name == names[other] else _side_of_pair(name, names[other])
        for name, other in zip(names, skeleton.mirror_indices, strict=True)
    )


def edge_sides(edges, sides):
    """Tells for each edge on which side of the body it is.

    An edge from the middle outwards belongs to its outer end; one from left to right is middle.

    Args:
      edges: pairs of joint indices.
      sides: of `joint_sides`, or None: everything is middle.

    Returns:
      Tuple of "left", "right" or "middle", one per edge.
    """
    if sides is None:
        return ("middle",) * len(edges)
    result = []
    for a, b in edges:
        distinct = {sides[a], sides[b]} - {"middle"}
        result.append(distinct.pop() if len(distinct) == 1 else "middle")
    return tuple(result)


def _side_of_pair(name, mirrored_name):
    """Compares a joint's name with its mirror joint's: the first difference is l or r."""
    first = next((a for a, b in zip(name, mirrored_name, strict=False) if a != b), "l")
    return "left" if first == "l" else "right"
