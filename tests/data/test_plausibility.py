import numpy as np
import pytest

from metrabs_like.data import plausibility
from tests.data.toy import OFFSETS_M, TOY

VALID = np.ones(5, bool)


@pytest.mark.parametrize("size", [0.4, 1.0, 1.4])
def test_people_of_all_sizes_pass(size):
    plausibility.check_person_size(OFFSETS_M * size, VALID, TOY, "people[0]")


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1000, "people.0.: the bone pelv-.han measures .* divide by 1000"),
        (100, "centimetres"),
        (2, "must be metres"),
        (1e-3, "kilometres"),
    ],
)
def test_wrong_units_are_named(factor, words):
    with pytest.raises(ValueError, match=words):
        plausibility.check_person_size(OFFSETS_M * factor, VALID, TOY, "people[0]")


def test_invalid_joints_do_not_count():
    points = OFFSETS_M.copy()
    points[1] = np.nan
    plausibility.check_person_size(points, np.arange(5) != 1, TOY, "people[0]")
    plausibility.check_person_size(points * 0, np.zeros(5, bool), TOY, "people[0]")


def test_extent_counts_where_no_bone_is_known():
    valid = np.array([False, True, True, True, True])  # every bone lacks an end
    with pytest.raises(ValueError, match="the whole person"):
        plausibility.check_person_size(OFFSETS_M * 1000, valid, TOY, "people[0]")
