"""What a user or a machine can cause, and the words it is told in."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(ValueError):
    """Bad input: one line that says what was wrong, where, and what would be right."""


class CodeError(StudyError):
    """Code that a study names is not allowed here, or is not to be had."""


class NotRegularError(StudyError):
    """What should be a file is a named pipe, a folder or a device."""


class DamagedError(StudyError):
    """A stored file is not what was written."""


class DataError(StudyError):
    """The data of a problem cannot be trained on: no number is stored for them."""


class RunInterrupted(StudyError):
    """The machine, not the study, ended a run; what is stored is whole, and can be continued."""


def unknown(kind: str, name: object, known: Iterable[str]) -> StudyError:
    """Return the error for a name that is not in a registry.

    Parameters
    ----------
    kind : str
        What the name should have named, as the user calls it: ``"scaler"``.
    name : object
        The name given.
    known : iterable of str
        The names that would have been right.
    """
    known = sorted(known)
    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return StudyError(f"unknown {kind} {name!r}; {hint}")
