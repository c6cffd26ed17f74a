"""The errors that a user or a machine can cause, and how they are worded."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(ValueError):
    """Bad input: one line that says what was wrong, where, and what would be right."""


class CodeError(StudyError):
    """Code that a study names is not allowed, or cannot be imported."""


class NotRegularError(StudyError):
    """A path that should be a file is a named pipe, a folder or a device."""


class DamagedError(StudyError):
    """A stored file differs from what was written."""


class DataError(StudyError):
    """The data of a problem cannot be trained on, so that nothing is stored for them."""


class RunInterrupted(StudyError):
    """The machine, not the study, ended a run; stored results are complete and can be continued."""


def unknown(kind: str, name: object, known: Iterable[str]) -> StudyError:
    """Return the error for a name that is not in a registry.

    Parameters
    ----------
    kind : str
        What the name refers to, such as ``"scaler"``.
    name : object
        The name given.
    known : iterable of str
        The valid names.

    Examples
    --------
    >>> str(unknown("scaler", "standart", ["minmax", "standard"]))
    "unknown scaler 'standart'; did you mean 'standard'?"
    """
    known = sorted(known)
    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return StudyError(f"unknown {kind} {name!r}; {hint}")
