"""What the tests of this layer share: repeatable hypothesis, and what a refusal looks like."""

from collections.abc import Callable

import pytest
import refusals
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """Return the check that a call is refused in a line with these words in it."""
    return refusals.refused
