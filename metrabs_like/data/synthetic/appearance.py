"""Clothes, skin and hair of a person, as colours and looseness of the mesh's faces and vertices.

Conventions: colours are RGB, 0..255, before lighting. All numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from metrabs_like.data.synthetic.mesh_template import MeshTemplate, mesh_template

_SKIN_TONES = np.array(
    [
        (255, 224, 196), (244, 208, 177), (231, 188, 152), (222, 171, 127),
        (198, 143, 99), (161, 108, 71), (121, 77, 50), (84, 54, 38),
    ],
    dtype=np.float64,
)  # fmt: skip
_HAIR_COLOURS = np.array(
    [
        (28, 22, 20), (45, 32, 24), (74, 48, 30), (110, 74, 43), (168, 126, 76),
        (206, 176, 122), (132, 62, 34), (150, 148, 146), (210, 208, 204),
    ],
    dtype=np.float64,
)  # fmt: skip
_IRIS_COLOURS = np.array([(60, 38, 24), (92, 66, 40), (70, 96, 120), (84, 104, 78)])


@dataclass(frozen=True)
class Outfit:
    """Looks of one person.

    Attributes:
      looseness: `[V]`, multiplier of the vertices' radii.
      colours: `[F, 3]`, RGB of the faces before lighting.
      is_drawn: `[F]` bool; optional tubes (skirt, long hair) may be absent.
      is_shown_vertex: `[V]` bool; vertices of drawn faces.
      two_sided: `[F]` bool; faces that show from behind too.
      gloss: `[F]`, strength of highlights.
      skin: `[3]`, RGB.
      hair: `[3]`, RGB.
      iris: `[3]`, RGB.
      lips: `[3]`, RGB.
      eyewear: 0 none, 1 glasses, 2 sunglasses.
    """

    looseness: np.ndarray
    colours: np.ndarray
    is_drawn: np.ndarray
    is_shown_vertex: np.ndarray
    two_sided: np.ndarray
    gloss: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    eyewear: int


def sample_outfit(rng: np.random.Generator, template: MeshTemplate) -> Outfit:
    """Draws the looks of a person.

    Args:
      rng: Source of randomness.
      template: The body mesh to dress.

    Returns:
      The outfit.
    """
    regions = _regions(template.detail)
    skin = np.clip(
        _picked(rng, _SKIN_TONES) * rng.uniform(0.9, 1.08) + rng.normal(0, 4, 3), 15, 255
    )
    hair = np.clip(
        _picked(rng, _HAIR_COLOURS) * rng.uniform(0.7, 1.25) + rng.normal(0, 4, 3), 5, 250
    )
    cut = _sample_cut(rng)
    material = np.zeros(len(regions.tube), dtype=np.intp)
    palette = np.empty((_N_MATERIALS, 3))
    palette[_SKIN], palette[_HAIR], palette[_BEARD] = skin, hair, 0.8 * hair + 0.2 * skin
    _dress_legs(rng, regions, material, palette, cut)
    _dress_trunk(rng, regions, material, palette, cut)
    _cover_head(rng, regions, material, palette, cut)
    relief = _RELIEF.copy()
    relief[_CLOTHES] = cut["folds"]
    shade = 1.0 + relief[material] * rng.standard_normal(regions.n_folds)[regions.fold]
    is_drawn = regions.is_body.copy()
    if cut["skirt"]:
        is_drawn |= regions.is_skirt & (regions.position > cut["skirt_end"])
    if cut["hair"] == "long":
        is_drawn |= regions.is_long_hair & (regions.position < cut["hair_end"])
    is_shown_vertex = np.zeros(len(template.girth), dtype=bool)
    is_shown_vertex[template.faces[is_drawn]] = True
    return Outfit(
        looseness=_looseness(cut, template),
        colours=np.abs(palette[material] * shade[:, np.newaxis]),
        is_drawn=is_drawn,
        is_shown_vertex=is_shown_vertex,
        two_sided=~regions.is_body,
        gloss=np.where(material >= _CLOTHES.start, cut["gloss"], 0.12),
        skin=skin,
        hair=hair,
        iris=_picked(rng, _IRIS_COLOURS),
        lips=skin * (0.86, 0.66, 0.66) if rng.random() < 0.7 else np.array([176.0, 60.0, 70.0]),
        eyewear=int(np.searchsorted((0.82, 0.92), rng.random())),
    )


# Materials of faces; a face's colour is its material's entry of the palette.
(_SKIN, _HAIR, _BEARD, _TROUSERS, _SEAM, _TIGHTS, _SOCKS, _SHOES, _SOLES, _SHIRT, _PRINT, _GLOVES,
 _HAT) = range(13)  # fmt: skip
_N_MATERIALS = 13
_CLOTHES = slice(_TROUSERS, _N_MATERIALS)
#: How much the brightness of a material varies between patches; clothes get theirs from the cut.
_RELIEF = np.array([0.015, 0.12, 0.08] + [0.05] * (_N_MATERIALS - 3))


@dataclass(frozen=True)
class _Regions:
    """Where each face of the mesh lies."""

    tube: np.ndarray
    position: np.ndarray
    angle: np.ndarray
    arm: np.ndarray
    leg: np.ndarray
    is_body: np.ndarray
    is_torso: np.ndarray
    is_upper_torso: np.ndarray
    is_lower_torso: np.ndarray
    is_sole: np.ndarray
    away: np.ndarray
    is_neck: np.ndarray
    is_hand: np.ndarray
    is_foot: np.ndarray
    is_head: np.ndarray
    is_skirt: np.ndarray
    is_long_hair: np.ndarray
    fold: np.ndarray
    n_folds: int


@cache
def _regions(detail) -> _Regions:
    """Constant look-up arrays for dressing."""
    template = mesh_template(detail)

    def of(*names):
        return np.isin(template.face_tube, [template.tube_names.index(name) for name in names])

    # Folds: patches of some neighbouring faces share a brightness.
    column = np.floor((template.face_angle + np.pi) / (2 * np.pi) * 7).astype(int)
    row = np.floor(template.face_position * 6).astype(int)
    keys = np.stack([template.face_tube, row, column], axis=-1)
    _, fold = np.unique(keys, axis=0, return_inverse=True)
    fold = fold.reshape(-1)
    return _Regions(
        tube=template.face_tube,
        position=template.face_position,
        angle=template.face_angle,
        arm=np.where(of("larm", "rarm"), template.face_position, np.inf),
        leg=np.where(of("lleg", "rleg"), template.face_position, np.inf),
        is_body=~of("skirt", "long_hair"),
        is_torso=of("torso"),
        is_upper_torso=of("torso") & (template.face_position > 1.8),
        is_lower_torso=of("torso") & (template.face_position < 0.6),
        is_sole=of("lfoot", "rfoot") & (np.abs(template.face_angle) > 2.2),
        away=np.abs(template.face_angle),
        is_neck=of("neck"),
        is_hand=of("lhand", "rhand"),
        is_foot=of("lfoot", "rfoot"),
        is_head=of("head"),
        is_skirt=of("skirt"),
        is_long_hair=of("long_hair"),
        fold=fold,
        n_folds=int(fold.max()) + 1,
    )


def _sample_cut(rng):
    """Draws the shape of the clothes."""
    u = rng.random(12).tolist()
    return {
        "sleeve": 2.1 if u[0] < 0.45 else 0.55 + 0.3 * u[1] if u[0] < 0.85 else 0.05,
        "trousers": 2.1 if u[2] < 0.7 else 0.45 + 0.5 * u[3],
        "skirt": u[4] < 0.14,
        "skirt_end": -1.6 - 2.4 * u[5],
        "hem": -0.75 + 1.2 * u[6],
        "neckline": 3.72 + 0.33 * u[7],
        "shirt_loose": 1.02 + 0.16 * u[8] ** 2,
        "trouser_loose": 1.03 + 0.22 * u[9] ** 2,
        "hair": "bald" if u[10] < 0.06 else "short" if u[10] < 0.6 else "long",
        "hair_end": 0.45 + 0.6 * u[11],
        "folds": rng.uniform(0.02, 0.09),
        "gloss": rng.uniform(0.0, 0.12),
        "hat": rng.random() < 0.08,
        "beard": rng.random() < 0.15,
        "collar": rng.random() < 0.4,
    }


@cache
def _vertex_places(detail):
    """Masks of the vertices that clothes can loosen, with their positions."""
    template = mesh_template(detail)
    name = np.array(template.tube_names)[template.vertex_tube]
    position = template.vertex_position
    return (
        np.isin(name, ["torso"]),
        np.where(np.isin(name, ["larm", "rarm"]), position, np.inf),
        np.where(np.isin(name, ["lleg", "rleg"]), position, np.inf),
        np.where(name == "head", position, 0.0),
        position,
    )


def _looseness(cut, template):
    """Multiplier of the radii `[V]` due to clothes and hair."""
    torso, arm, leg, head, position = _vertex_places(template.detail)
    loose = np.ones(len(position))
    loose[torso & (position > cut["hem"]) & (position < 3.4)] = cut["shirt_loose"]
    sleeved = arm < cut["sleeve"]
    loose[sleeved] = 1.0 + 1.3 * (cut["shirt_loose"] - 1.0)
    covered = leg < cut["trousers"]
    # Wide trousers hang straight down, so the calf gains more than the thigh.
    loose[covered] = 1.0 + (cut["trouser_loose"] - 1.0) * (0.4 + np.abs(leg[covered]))
    if cut["hair"] != "bald":
        loose[head > 0.6] = 1.07
    return loose


def _dress_legs(rng, regions, material, palette, cut):
    """Trousers, shorts or skirt, socks and shoes."""
    palette[_TROUSERS] = _sample_cloth_colour(rng, dark=0.7)
    material[regions.is_lower_torso] = _TROUSERS
    if cut["skirt"]:
        material[regions.is_skirt] = _TROUSERS
        if rng.random() < 0.4:
            palette[_TIGHTS] = _sample_cloth_colour(rng, dark=0.8)
            material[regions.leg <= 2.1] = _TIGHTS
    else:
        material[regions.leg < cut["trousers"]] = _TROUSERS
        if rng.random() < 0.12:
            palette[_SEAM] = _sample_cloth_colour(rng, dark=0.2)
            at_side = np.abs(regions.away - np.pi / 2) < 0.25
            material[at_side & (material == _TROUSERS)] = _SEAM
    if rng.random() < 0.1:
        return  # barefoot
    if cut["trousers"] < 2.0 and rng.random() < 0.4:
        palette[_SOCKS] = _sample_cloth_colour(rng, dark=0.3)
        material[(regions.leg > rng.uniform(1.55, 1.9)) & np.isfinite(regions.leg)] = _SOCKS
    palette[_SHOES] = _sample_cloth_colour(rng, dark=0.6)
    material[regions.is_foot] = _SHOES
    if rng.random() < 0.5:
        palette[_SOLES] = 0.4 * palette[_SHOES] + 0.6 * (40.0 if rng.random() < 0.5 else 235.0)
        material[regions.is_sole] = _SOLES


def _dress_trunk(rng, regions, material, palette, cut):
    """Shirt with sleeves, pattern, logo, open jacket; gloves."""
    neckline = np.where(regions.away < 0.9, cut["neckline"], 4.2)
    worn = regions.is_torso & (regions.position > cut["hem"]) & (regions.position < neckline)
    worn |= regions.arm < cut["sleeve"]
    if cut["collar"]:
        worn |= regions.is_neck & (regions.position < 0.25)
    palette[_SHIRT] = _sample_cloth_colour(rng, dark=0.4)
    palette[_PRINT] = _sample_cloth_colour(rng, dark=0.4)
    material[worn] = _SHIRT
    printed = _sample_print(rng, regions)
    if printed is not None:
        material[worn & printed] = _PRINT
    if rng.random() < 0.06:
        palette[_GLOVES] = _sample_cloth_colour(rng, dark=0.6)
        material[regions.is_hand] = _GLOVES


def _sample_print(rng, regions):
    """Where a shirt has its second colour, None where it has one colour only."""
    kind, a, b, c = rng.random(4).tolist()
    position, angle = regions.position, regions.angle
    if kind < 0.15:  # rings around
        along = position + np.where(regions.is_torso, 0.0, 0.4)
        return (along * (2.0 + 4.0 * a) + b) % 1.0 < 0.3 + 0.3 * c
    if kind < 0.22:  # stripes along
        return (angle / (2 * np.pi) * (4 + int(7 * a))) % 1.0 < 0.5
    if kind < 0.3:  # checks
        row, column = np.floor(position * (2.0 + 3.0 * a)), np.floor(angle * (1.0 + b))
        return (row + column) % 2 == 0
    if kind < 0.4:  # speckles
        return rng.random(len(position)) < 0.15 + 0.25 * a
    if kind < 0.5:  # other sleeves
        return np.isfinite(regions.arm)
    if kind < 0.62:  # open jacket
        return regions.is_torso & (regions.away < 0.25 + 0.35 * a)
    if kind < 0.8:  # on the chest
        low = 2.0 + a
        on_chest = regions.is_upper_torso & (regions.away < 0.3 + 0.45 * b)
        return on_chest & (position > low) & (position < low + 0.3 + 0.6 * c)
    return None


def _cover_head(rng, regions, material, palette, cut):
    """Hair, beard, hat."""
    away, height = regions.away, regions.position
    if cut["hair"] != "bald":
        scalp = (height > rng.uniform(0.76, 0.86)) | ((away > 1.75) & (height > 0.33))
        scalp |= (away > 1.15) & (height > 0.6)
        if cut["hair"] == "long":
            scalp |= (away > 1.3) & (height > 0.3)
        material[regions.is_head & scalp] = _HAIR
        material[regions.is_long_hair] = _HAIR
    if cut["beard"]:
        material[regions.is_head & (height < 0.24) & (away < 1.7)] = _BEARD
    if cut["hat"]:
        palette[_HAT] = _sample_cloth_colour(rng, dark=0.5)
        material[regions.is_head & (height > 0.72)] = _HAT


def _sample_cloth_colour(rng, dark):
    """RGB of a cloth: greys, denim or any hue, `dark` being the share of dark ones."""
    kind, hue, saturation, value = rng.random(4).tolist()
    value = 0.08 + 0.35 * value if rng.random() < dark else 0.4 + 0.58 * value
    if kind < 0.36:
        saturation *= 0.12
    elif kind < 0.5:
        hue, saturation = 0.58 + 0.06 * hue, 0.35 + 0.35 * saturation
    else:
        saturation = 0.15 + 0.75 * saturation
    wheel = np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1.0 * 6.0 - 3.0) - 1.0
    return 255.0 * value * (1.0 - saturation + saturation * np.minimum(np.maximum(wheel, 0.0), 1.0))


def _picked(rng, rows):
    """A random row, as float."""
    return rows[int(rng.integers(len(rows)))].astype(np.float64)
