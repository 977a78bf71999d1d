"""Shared fixtures: deterministic randomness per test."""

import hashlib

import numpy as np
import pytest


@pytest.fixture
def rng(request):
    """Returns a NumPy generator seeded by the test's id, so that a failure repeats."""
    digest = hashlib.sha256(request.node.nodeid.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
