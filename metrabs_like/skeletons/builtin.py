"""The joint sets that the common datasets use, in the native order of their files.

Conventions: a name is a side, `l` or `r`, and a part:
`hip kne ank foo toe hee sho elb wri han cla eye ear` (`cla` is the clavicle). On the middle line:
`pelv`, `bell spin thor` (lower, middle, upper spine), `tors` (middle of the spine),
`neck head nose`, `htop` (top of the head).
"""

from __future__ import annotations

from metrabs_like.skeletons.skeleton import Skeleton


def _skeleton(name: str, suffix: str, joint_names: str, chains: str) -> Skeleton:
    """Builds a skeleton from chains of joints; the mirror image of a chain is an edge list too."""
    names = tuple(joint_names.split())
    bare = Skeleton(name, names)
    edges: dict[tuple[int, int], None] = {}
    for chain in chains.split():
        links = [bare.index(joint) for joint in chain.split("-")]
        mirrored = [bare.mirror_indices[joint] for joint in links]
        for path in (links, mirrored):
            for edge in zip(path[:-1], path[1:], strict=True):
                if edge[::-1] not in edges:
                    edges[edge] = None
    return Skeleton(name, names, tuple(edges), suffix)


#: The 24 joints of the SMPL body model (Loper et al. 2015).
SMPL_24 = _skeleton(
    "smpl_24",
    "smpl",
    "pelv lhip rhip bell lkne rkne spin lank rank thor ltoe rtoe neck lcla rcla head "
    "lsho rsho lelb relb lwri rwri lhan rhan",
    "pelv-bell-spin-thor-neck-head pelv-lhip-lkne-lank-ltoe thor-lcla-lsho-lelb-lwri-lhan",
)

#: The 17 COCO keypoints with the edges of the annotation files.
COCO_17 = _skeleton(
    "coco_17",
    "coco",
    "nose leye reye lear rear lsho rsho lelb relb lwri rwri lhip rhip lkne rkne lank rank",
    "lhip-lkne-lank lhip-rhip lsho-lhip lsho-rsho lsho-lelb-lwri "
    "leye-reye nose-leye-lear lear-lsho",
)

#: The 17 joints of Human3.6M that evaluations use; `head` is the nose.
H36M_17 = _skeleton(
    "h36m_17",
    "h36m",
    "pelv rhip rkne rank lhip lkne lank tors neck head htop lsho lelb lwri rsho relb rwri",
    "pelv-tors-neck-head-htop pelv-lhip-lkne-lank neck-lsho-lelb-lwri",
)

#: The 25 keypoints of OpenPose; `lto2` is the left big toe, `lto3` the left small toe (as in
#: SMPL-X).
BODY_25 = _skeleton(
    "body_25",
    "body25",
    "nose neck rsho relb rwri lsho lelb lwri pelv rhip rkne rank lhip lkne lank reye leye rear "
    "lear lto2 lto3 lhee rto2 rto3 rhee",
    "pelv-neck-nose pelv-lhip-lkne-lank-lto2-lto3 lank-lhee nose-leye-lear neck-lsho-lelb-lwri",
)

#: The 19 joints of MADS (martial arts, dancing, sports).
MADS_19 = _skeleton(
    "mads_19",
    "mads",
    "neck pelv lhip lkne lank ltoe rhip rkne rank rtoe lsho lelb lwri lhan rsho relb rwri "
    "rhan head",
    "pelv-neck-head pelv-lhip-lkne-lank-ltoe neck-lsho-lelb-lwri-lhan",
)

BUILTIN = {s.name: s for s in (SMPL_24, COCO_17, H36M_17, BODY_25, MADS_19)}
