"""Clothes, skin and hair of a person, as colours and looseness of the mesh's faces and vertices.

Conventions: colours are RGB, 0..255, before lighting. All numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from metrabs_like.data.synthetic.mesh_template import mesh_template

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


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Draws the looks of a person.

    Args:
      rng: Source of randomness.

    Returns:
      The outfit for the body mesh.
    """
    regions = _regions()
    skin = np.clip(
        _picked(rng, _SKIN_TONES) * rng.uniform(0.9, 1.08) + rng.normal(0, 4, 3), 15, 255
    )
    hair = np.clip(
        _picked(rng, _HAIR_COLOURS) * rng.uniform(0.7, 1.25) + rng.normal(0, 4, 3), 5, 250
    )
    colours = np.tile(skin, (len(regions.tube), 1))
    cut = _sample_cut(rng)
    _dress_legs(rng, regions, colours, cut)
    _dress_trunk(rng, regions, colours, cut)
    _cover_head(rng, regions, colours, cut, hair)
    folds = rng.normal(0.0, 1.0, size=regions.n_folds)[regions.fold]
    is_cloth = (colours != skin).any(axis=-1) & ~regions.is_head
    colours *= np.where(is_cloth, 1.0 + cut["folds"] * folds, 1.0 + 0.015 * folds)[:, np.newaxis]
    is_drawn = ~(regions.is_skirt | regions.is_long_hair)
    is_drawn |= regions.is_skirt & cut["skirt"] & (regions.position > cut["skirt_end"])
    is_drawn |= (
        regions.is_long_hair & (cut["hair"] == "long") & (regions.position < cut["hair_end"])
    )
    is_shown_vertex = np.zeros(len(mesh_template().girth), dtype=bool)
    is_shown_vertex[mesh_template().faces[is_drawn]] = True
    return Outfit(
        looseness=_looseness(cut),
        colours=np.clip(colours, 0.0, 255.0),
        is_drawn=is_drawn,
        is_shown_vertex=is_shown_vertex,
        two_sided=regions.is_skirt | regions.is_long_hair,
        gloss=np.where(is_cloth, cut["gloss"], 0.12),
        skin=skin,
        hair=hair,
        iris=_picked(rng, np.array([(60, 38, 24), (92, 66, 40), (70, 96, 120), (84, 104, 78)])),
        lips=skin * (0.86, 0.66, 0.66) if rng.random() < 0.7 else np.array([176.0, 60.0, 70.0]),
        eyewear=int(rng.choice(3, p=(0.82, 0.1, 0.08))),
    )


@dataclass(frozen=True)
class _Regions:
    """Where each face of the mesh lies."""

    tube: np.ndarray
    position: np.ndarray
    angle: np.ndarray
    arm: np.ndarray
    leg: np.ndarray
    is_torso: np.ndarray
    is_neck: np.ndarray
    is_hand: np.ndarray
    is_foot: np.ndarray
    is_head: np.ndarray
    is_skirt: np.ndarray
    is_long_hair: np.ndarray
    fold: np.ndarray
    n_folds: int


@cache
def _regions() -> _Regions:
    """Constant look-up arrays for dressing."""
    template = mesh_template()

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
        is_torso=of("torso"),
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
def _vertex_places():
    """Masks of the vertices that clothes can loosen, with their positions."""
    template = mesh_template()
    name = np.array(template.tube_names)[template.vertex_tube]
    position = template.vertex_position
    return (
        np.isin(name, ["torso"]),
        np.where(np.isin(name, ["larm", "rarm"]), position, np.inf),
        np.where(np.isin(name, ["lleg", "rleg"]), position, np.inf),
        np.where(name == "head", position, 0.0),
        position,
    )


def _looseness(cut):
    """Multiplier of the radii `[V]` due to clothes and hair."""
    torso, arm, leg, head, position = _vertex_places()
    loose = np.ones(len(position))
    loose[torso & (position > cut["hem"]) & (position < 3.4)] = cut["shirt_loose"]
    sleeved = arm < cut["sleeve"]
    loose[sleeved] = 1.0 + 1.3 * (cut["shirt_loose"] - 1.0)
    covered = leg < cut["trousers"]
    # Wide trousers hang straight down, so the calf gains more than the thigh.
    loose[covered] = 1.0 + (cut["trouser_loose"] - 1.0) * (0.4 + np.clip(leg[covered], 0.0, 2.0))
    if cut["hair"] != "bald":
        loose[head > 0.6] = 1.07
    return loose


def _dress_legs(rng, regions, colours, cut):
    """Trousers, shorts or skirt, socks and shoes."""
    cloth = _sample_cloth_colour(rng, dark=0.7)
    if cut["skirt"]:
        colours[regions.is_skirt] = cloth
        colours[regions.is_torso & (regions.position < 0.6)] = cloth
        if rng.random() < 0.4:
            colours[regions.leg <= 2.1] = _sample_cloth_colour(rng, dark=0.8)  # tights
    else:
        covered = (regions.leg < cut["trousers"]) | (regions.is_torso & (regions.position < 0.6))
        colours[covered] = cloth
        if rng.random() < 0.12:
            stripe = covered & (np.abs(np.abs(regions.angle) - np.pi / 2) < 0.25)
            colours[stripe] = _sample_cloth_colour(rng, dark=0.2)
    if rng.random() < 0.1:
        return  # barefoot
    if rng.random() < 0.4:
        sock = (regions.leg > rng.uniform(1.55, 1.9)) & (regions.leg < 2.5)
        colours[sock & (cut["trousers"] < 2)] = _sample_cloth_colour(rng, dark=0.3)
    shoe = _sample_cloth_colour(rng, dark=0.6)
    colours[regions.is_foot] = shoe
    if rng.random() < 0.5:
        below = regions.is_foot & (np.abs(regions.angle) > 2.2)
        colours[below] = 0.4 * shoe + 0.6 * np.array(rng.choice([40.0, 235.0]))


def _dress_trunk(rng, regions, colours, cut):
    """Shirt with sleeves, pattern, logo, open jacket."""
    worn = regions.is_torso & (regions.position > cut["hem"])
    worn &= regions.position < np.where(np.abs(regions.angle) < 0.9, cut["neckline"], 4.2)
    worn |= regions.arm < cut["sleeve"]
    worn |= regions.is_neck & cut["collar"] & (regions.position < 0.25)
    base = _sample_cloth_colour(rng, dark=0.4)
    colours[worn] = base
    second = _sample_cloth_colour(rng, dark=0.4)
    kind = rng.random()
    if kind < 0.15:  # rings around
        frequency, phase = rng.uniform(2.0, 6.0), rng.random()
        along = regions.position + np.where(regions.is_torso, 0.0, 0.4)
        colours[worn & ((along * frequency + phase) % 1.0 < rng.uniform(0.3, 0.6))] = second
    elif kind < 0.22:  # stripes along
        count = rng.integers(4, 11)
        colours[worn & ((regions.angle / (2 * np.pi) * count) % 1.0 < 0.5)] = second
    elif kind < 0.3:  # checks
        row = np.floor(regions.position * rng.uniform(2.0, 5.0))
        column = np.floor(regions.angle / (2 * np.pi) * rng.integers(6, 12))
        colours[worn & ((row + column) % 2 == 0)] = second
    elif kind < 0.4:  # speckles
        colours[worn & (rng.random(len(worn)) < rng.uniform(0.15, 0.4))] = second
    elif kind < 0.5:  # other sleeves
        colours[worn & np.isfinite(regions.arm)] = second
    elif kind < 0.62:  # open jacket
        colours[worn & regions.is_torso & (np.abs(regions.angle) < rng.uniform(0.25, 0.6))] = second
    elif kind < 0.8:  # print on the chest
        low = rng.uniform(2.0, 3.0)
        print_ = worn & regions.is_torso & (np.abs(regions.angle) < rng.uniform(0.3, 0.75))
        print_ &= (regions.position > low) & (regions.position < low + rng.uniform(0.3, 0.9))
        colours[print_] = second
    if rng.random() < 0.1:  # gloves
        colours[regions.is_hand] = _sample_cloth_colour(rng, dark=0.6)


def _cover_head(rng, regions, colours, cut, hair):
    """Hair, beard, hat."""
    away = np.abs(regions.angle)  # 0 at the face, pi at the back of the head
    height = regions.position
    if cut["hair"] != "bald":
        fringe = rng.uniform(0.76, 0.86)
        scalp = (height > fringe) | ((away > 1.75) & (height > 0.33))
        scalp |= (away > 1.15) & (height > 0.6)
        if cut["hair"] == "long":
            scalp |= (away > 1.3) & (height > 0.3)
        colours[regions.is_head & scalp] = hair
        colours[regions.is_long_hair] = hair
        tone = 1.0 + 0.12 * rng.standard_normal(len(height))
        hairy = (regions.is_head & scalp) | regions.is_long_hair
        colours[hairy] *= tone[hairy, np.newaxis]
    if cut["beard"]:
        beard = regions.is_head & (height < 0.24) & (away < 1.7)
        colours[beard] = 0.8 * hair + 0.2 * colours[beard]
    if cut["hat"]:
        colours[regions.is_head & (height > 0.72)] = _sample_cloth_colour(rng, dark=0.5)


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
    return 255.0 * value * (1.0 - saturation + saturation * np.clip(wheel, 0.0, 1.0))


def _picked(rng, rows):
    """A random row, as float."""
    return rows[int(rng.integers(len(rows)))].astype(np.float64)
