"""Which reports there are: every sub-package of `scaling_study.report` with a module ``report``.

The module has two functions: ``applies(study) -> bool`` and ``build(results) -> Report``. Nothing
outside of the sub-package names it.
"""

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from scaling_study import report as package
from scaling_study.errors import StudyError
from scaling_study.study.study import Study


def reports() -> dict[str, ModuleType]:
    """Return the module of each report by its name, such as ``real-data``."""
    found = {}
    for part in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if part.ispkg and find_spec(f"{part.name}.report"):
            name = part.name.rpartition(".")[2].replace("_", "-")
            found[name] = import_module(f"{part.name}.report")
    return found


def report_of(study: Study) -> ModuleType:
    """Return the report that applies to a study.

    One that applies and is not named by the study's ``report`` precedes the one that is: a study
    with claims has a paper, whatever it names.

    Raises
    ------
    StudyError
        If none applies.
    """
    applying = {name: module for name, module in reports().items() if module.applies(study)}
    if not applying:
        raise StudyError(f"report = {study.report!r}: no report of that name fits the study")
    return applying[min(applying, key=lambda name: name == study.report)]
