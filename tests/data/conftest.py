"""Fixtures of the data tests."""

import pytest

from tests.data.toy import write_toy


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    """A data set of 3 shards, 18 images, 18 people, 320 x 240 px PNG."""
    return write_toy(tmp_path_factory.mktemp("toy"))
