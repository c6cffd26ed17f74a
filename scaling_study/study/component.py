"""A component of a condition: the name of a registry's entry and its parameters."""

import copy
import importlib
import inspect
import itertools
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from scaling_study.errors import CodeError, StudyError, unknown
from scaling_study.study import code
from scaling_study.study.values import error_context, listed


class _Everything:
    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING: Container[str] = _Everything()
TABLE = "table"  # the name of a problem that is a user's own table
# Kinds whose reference may be to an object instead of a factory, and the method of such an object.
OBJECTS = {"scaler": "fit", "problem": "draw", "model": "apply"}
MOST_CONDITIONS = 1_000_000
FEWER_CONDITIONS = f"a study has at most {MOST_CONDITIONS:,} conditions; list fewer values"
_import_lock = threading.RLock()  # the search path belongs to the whole process


@dataclass(frozen=True, order=True)
class Component:
    """A named entry of a registry with parameters, such as ``adam(eps=1e-07)``."""

    name: str  # a key of the registry, or "package.module:attribute" for a user's own code
    parameters: tuple[tuple[str, Any], ...] = ()  # of the registry's factory, sorted by name
    # Whether the code that is named may be imported; a study file alone does not allow it.
    allowed: bool = field(default=True, compare=False, repr=False)
    # The path of a table, whose content is identified by the parameter ``digest``.
    source: str = field(default="", compare=False, repr=False)

    @property
    def is_table(self) -> bool:
        """Whether it is a problem that is a user's own table."""
        return self.name == TABLE

    @property
    def is_code(self) -> bool:
        """Whether the name is a reference to code, ``package.module:attribute``."""
        return ":" in self.name

    @property
    def is_of_process(self) -> bool:
        """Whether the code is an object of this process, which no other can import."""
        return self.is_code and code.HERE in self.name

    @cached_property
    def canonical(self) -> str:
        """The component as JSON; whether its code is allowed does not change it."""
        parts = {"allowed": True, "name": self.name, "parameters": self.parameters}
        return json.dumps(parts, sort_keys=True, separators=(",", ":"))

    def within(self, allowed: Container[str]) -> "Component":
        """Return the component, which may import code only if its name is allowed."""
        allow = not self.is_code or self.is_of_process or self.name in allowed
        return replace(self, allowed=allow)

    def __str__(self) -> str:
        name, parameters = self.name, self.parameters
        if self.is_table:
            name = os.path.basename(self.source) or "frame"
            parameters = tuple(pair for pair in parameters if pair[0] not in ("digest", "control"))
        elif self.is_of_process:
            name = name.rpartition(":")[2][: -code.HIDDEN]
        if not parameters:
            return name
        return f"{name}({', '.join(f'{key}={value}' for key, value in parameters)})"

    @classmethod
    def expand(cls, value: object) -> list["Component"]:
        """Read ``"name"``, an object, or ``{name = "...", parameter = ...}``, one a grid cell.

        A parameter that is a list is a grid axis; a value that is itself a list is written as a
        list of lists: ``{name = "mlp", hidden = [[16, 16]]}``.
        """
        table: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"name": value}
        name = table.get("name")
        if isinstance(name, code.PLAIN) and not (isinstance(name, str) and name):
            raise StudyError(f'{value!r} is neither a name nor a table {{name = "...", ...}}')
        if not isinstance(name, str):
            table = code.described(name) | {k: v for k, v in table.items() if k != "name"}
            name = table["name"]
        axes = {}
        for key in sorted(table.keys() - {"name"}):
            with error_context(f"{name}.{key}"):
                axes[key] = [_freeze(item) for item in listed(table[key])]
        count = math.prod(map(len, axes.values()))
        if count > MOST_CONDITIONS:
            raise StudyError(f"{name}: {count:,} combinations of parameters; {FEWER_CONDITIONS}")
        cells = itertools.product(*axes.values())
        return [cls(name, tuple(zip(axes, cell, strict=True))) for cell in cells]

    def plain(self) -> str | dict[str, Any]:
        """Return what `expand` reads back: the name alone where there are no parameters."""
        if self.is_table:
            listed = {k: list(v) if isinstance(v, tuple) else v for k, v in self.parameters}
            return {TABLE: self.source, **listed}
        if not self.parameters:
            return self.name
        nested = {k: [list(v)] if isinstance(v, tuple) else v for k, v in self.parameters}
        return {"name": self.name, **nested}

    def build(self, kind: str, registry: Mapping[str, Callable[..., Any]], **defaults: Any) -> Any:
        """Call the factory that the component names, with its parameters over the defaults.

        ``kind`` is what the registry holds, for error messages.

        Raises
        ------
        CodeError
            If the name is a reference to code that is not allowed or cannot be imported.
        StudyError
            If the name is unknown, or the factory rejects a parameter or its value.
        """
        factory = self.resolve(kind, registry)
        arguments = {**defaults, **dict(self.parameters)}
        check_arguments(f"{kind} {self.name!r}", factory, arguments)
        with error_context(f"{kind} {self.name!r}", Exception):
            return factory(**arguments)

    def resolve(self, kind: str, registry: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
        """Return the factory, from the registry or from ``package.module:attribute``."""
        if self.name in registry:
            return registry[self.name]
        if self.is_of_process:
            with error_context(f"{kind} {self}"):
                return self._factory(kind, code.kept(self.name))
        module, colon, attribute = self.name.partition(":")
        if not colon or module.endswith(".py") or "/" in module:
            raise self._unknown(kind, registry)
        if not self.allowed:
            raise CodeError(
                f"{kind} {self.name!r} is code that the study file names; say --allow-code"
                " (allow_code=True) if you trust it"
            )
        with error_context(f"{kind} {self.name!r} cannot be imported", Exception, raises=CodeError):
            factory = getattr(import_module(module), attribute)
        return self._factory(kind, factory)

    def _factory(self, kind: str, found: Any) -> Callable[..., Any]:
        """Return what a reference leads to as a factory, which an object of some kinds is not."""
        if not isinstance(found, type) and hasattr(found, OBJECTS.get(kind, "")):
            return lambda: copy.deepcopy(found)  # each data set fits a copy
        if callable(found):
            return found
        raise StudyError(
            f"{kind} {self.name!r} cannot be called; name a class or a function that returns it"
        )

    def _unknown(self, kind: str, registry: Mapping[str, Callable[..., Any]]) -> StudyError:
        """Return the error for a name that is neither in the registry nor a reference."""
        path = self.name.replace("/", ".").replace(".py:", ":")
        module, _, attribute = path.rpartition(":" if ":" in path else ".")
        if module and attribute.isidentifier():
            return StudyError(
                f"unknown {kind} {self.name!r}; write one of your own as package.module:name, here"
                f" {module.lstrip('.')}:{attribute}"
            )
        error = unknown(kind, self.name, registry)
        if "did you mean" in str(error):
            return error
        return StudyError(f"{error}; or one of your own, as package.module:name")


def import_module(name: str) -> Any:
    """Import a module that a user named; the current directory is searched last.

    The directory is on the search path only during this import, so that a command that is run in
    a folder imports nothing else from it.
    """
    with _import_lock:
        try:
            here = os.getcwd()
        except FileNotFoundError:  # it was deleted
            here = ""
        added = here != "" and here not in sys.path
        if added:
            sys.path.append(here)
        try:
            return importlib.import_module(name)
        finally:
            if added and here in sys.path:
                sys.path.remove(here)


def check_arguments(where: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise a `StudyError` that names the first argument the factory does not take."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some built-in callables have none
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in arguments:
        if key not in parameters:
            raise StudyError(f"{where}: {unknown('parameter', key, parameters)}")


def _freeze(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    if not isinstance(value, str | int | float) or value != value:
        raise StudyError(f"must be text, a number, a truth value or a list of them, not {value!r}")
    return value
