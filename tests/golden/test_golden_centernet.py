"""Golden vectors of the `centernet` system: the released codes' numbers and gradients.

Folder: METRABS_LIKE_GOLDENS (default tests/goldens), in it `centernet/`. Each file's prefix names
what it tests; a file that no prefix knows fails. Sizes, seeds and options are read from the files,
so that any file of the same form can be put there.
"""

import pytest

from tests.golden import (
    centernet_dcn,
    centernet_decode,
    centernet_losses,
    centernet_networks,
    centernet_targets,
    npz_cases,
)

SYSTEM = "centernet"
PARTS = (
    centernet_dcn,
    centernet_decode,
    centernet_losses,
    centernet_networks,
    centernet_targets,
)
# Prefix of a file's name -> its part: `cases(path)` names what it holds, `check(path, name)` tests.
FILES = {prefix: test for part in PARTS for prefix, test in part.FILES.items()}


def _test_of(path):
    """The test whose prefix is the longest of the file's name, None if none knows it."""
    matching = [prefix for prefix in FILES if path.stem.startswith(prefix)]
    return FILES[max(matching, key=len)] if matching else None


PATHS = sorted(npz_cases.folder(SYSTEM).glob("*.npz"))
CASES = [(path, name) for path in PATHS if _test_of(path) for name in _test_of(path).cases(path)]


@pytest.mark.parametrize(
    ("path", "name"),
    CASES,
    ids=[f"golden-{SYSTEM}-{path.stem}-{name}" for path, name in CASES],
)
def test_agrees_with_the_released_code(path, name):
    _test_of(path).check(path, name)


def test_golden_centernet_files_exist():
    assert PATHS, f"no golden files in {npz_cases.folder(SYSTEM)}"
    for path in PATHS:
        assert _test_of(path), f"{path}: no test knows such a file"
        assert _test_of(path).cases(path), f"{path}: holds nothing to compare"
