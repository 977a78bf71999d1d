"""Joint sets as frozen data: names, edges, mirror pairs, unions and maps between sets by name."""

from metrabs_like.skeletons.builtin import BODY_25, COCO_17, H36M_17, MADS_19, SMPL_24
from metrabs_like.skeletons.lookup import get, load
from metrabs_like.skeletons.mapping import components, convert, index_map, union
from metrabs_like.skeletons.skeleton import Skeleton

__all__ = [
    "BODY_25",
    "COCO_17",
    "H36M_17",
    "MADS_19",
    "SMPL_24",
    "Skeleton",
    "components",
    "convert",
    "get",
    "index_map",
    "load",
    "union",
]
