"""Checks that invalid input is refused with one line."""

from collections.abc import Callable
from typing import Any

import pytest

from scaling_study.errors import StudyError


def refused(call: Callable[[], Any], *words: str) -> str:
    """Check that a call raises a `StudyError` of one line that contains these words."""
    with pytest.raises(StudyError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in {message!r}"
    return message
