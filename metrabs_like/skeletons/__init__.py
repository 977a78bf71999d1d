"""Joint sets as frozen data: names, edges, mirror pairs, unions and maps between sets by name."""

from .builtin import BODY_25, COCO_17, H36M_17, MADS_19, SMPL_24
from .lookup import get, load
from .mapping import components, convert, index_map, union
from .skeleton import Skeleton

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
