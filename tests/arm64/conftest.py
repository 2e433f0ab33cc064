"""The image, built once a session, or one line that says why it can't be had here."""

import pytest

from tests.arm64.lab import Image, build, lacking


@pytest.fixture(scope="session")
def image() -> Image:
    """Build the agent's image, or find it built."""
    if why := lacking():
        pytest.skip(why)
    return build()
