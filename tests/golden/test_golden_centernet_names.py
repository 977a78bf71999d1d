"""Golden names: every entry of the released `state_dict` is used, or known to be without effect."""

import re

import numpy as np
import pytest

from metrabs_like.systems.centernet.torch_names import load_state
from tests.golden import centernet_weights, npz_cases

FOLDER = npz_cases.folder("centernet")
ENTRIES = centernet_weights.entries(FOLDER)
# What the released network computes in vain, or keeps for training alone.
_WITHOUT_EFFECT = {
    "dead": r"base\.level[34]\.project\..*",
    "classifier": r"base\.fc\..*",
    "counters": r".*\.num_batches_tracked",
}


@pytest.fixture(scope="module")
def report():
    """Loads all entries, the classifier too."""
    model = centernet_weights.network(FOLDER)
    state = dict(centernet_weights.state(FOLDER))
    missing = {name: np.zeros(shape, np.float32) for name, shape in ENTRIES.items()}
    return load_state(model, missing | state)


@pytest.mark.parametrize("name", ENTRIES, ids=lambda name: f"golden-centernet-entry-{name}")
def test_entry_is_used_or_has_no_effect(report, name):
    kind = next((k for k, text in _WITHOUT_EFFECT.items() if re.fullmatch(text, name)), "used")
    found = [k for k in ("used", *_WITHOUT_EFFECT) if name in getattr(report, k)]
    assert found == [kind]


def test_golden_centernet_number_of_parameters():
    """Trained weights of ours and those without effect are the published number."""
    model = centernet_weights.network(FOLDER)
    ours = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    kinds = ("weight", "bias")
    dead = sum(
        int(np.prod(shape))
        for name, shape in ENTRIES.items()
        if re.fullmatch(_WITHOUT_EFFECT["dead"], name) and name.endswith(kinds)
    )
    assert ours + dead == centernet_weights.n_parameters(FOLDER)
