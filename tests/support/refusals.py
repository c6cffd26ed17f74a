"""What a refusal looks like: one line that says what was wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from scaling_study.errors import StudyError


def refused(call: Callable[[], Any], *words: str) -> str:
    """Hold a call to a `StudyError` of one line with these words in it."""
    with pytest.raises(StudyError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in {message!r}"
    return message
