"""The errors that a user or a machine can cause, each with a message of one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(ValueError):
    """Bad input: one line that says what was wrong, where, and what would be right."""


class CodeError(StudyError):
    """Code that a study names is not allowed here, or cannot be imported."""


class NotRegularError(StudyError):
    """A named pipe, a folder or a device in place of a file."""


class DamagedError(StudyError):
    """A stored file has changed since it was written."""


class DataError(StudyError):
    """The data of a problem cannot be trained on; nothing is stored for them."""


class RunInterrupted(StudyError):
    """The machine ended a run; what is stored is intact, and the run can be continued."""


#: Names of earlier versions, and what they are called now.
RENAMED = {
    "all": "always",
    "dialect": "framework",
    "larger": "last_weight_larger",
    "larger_twice": "last_weight_twice_as_large",
    "most": "usually",
    "plateaued": "in_worse_minimum",
    "some": "sometimes",
    "stuck": "in_worse_minimum",
    "unfinished": "remaining_excess",
}
CONTINUE = "what is stored is intact, run the same command again to continue"


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
    if RENAMED.get(str(name)) in known:
        return StudyError(f"unknown {kind} {name!r}; it is now called {RENAMED[str(name)]!r}")
    close = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return StudyError(f"unknown {kind} {name!r}; {hint}")
