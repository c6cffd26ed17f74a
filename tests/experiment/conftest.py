"""What the tests of this layer share: repeatable hypothesis, and what a refusal looks like."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from scaling_study.errors import StudyError

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
    """Return a check that a call raises a `StudyError`: one line, with these words in it."""

    def check(call: Callable[[], Any], *words: str) -> str:
        with pytest.raises(StudyError) as caught:
            call()
        message = str(caught.value)
        assert len(message.splitlines()) == 1, message
        missing = [word for word in words if word not in message]
        assert not missing, f"{missing} not in {message!r}"
        return message

    return check
