"""A user's own code: how an object in Python is named in a study, and what identifies it.

An object that can be imported is named ``package.module:name``, with its parameters, so that any
process builds it from the study's text. Any other, of a notebook, a script or a lambda, is kept
in this process and named ``module:name@digest``; only this process can build it.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import CodeType, ModuleType
from typing import Any

from scaling_study.errors import CodeError, StudyError

HERE = "@"  # between the name and the digest of an object of this process
DIGITS, HIDDEN = 12, 8  # of a digest, and those that are left out where a reader sees it
ELSEWHERE = (
    "was defined in another process (a notebook, a script or a lambda) and cannot be built from"
    " the study; define it in a module, and name it as package.module:name"
)
_objects: dict[str, Any] = {}  # of this process, by their names
PLAIN = (type(None), bool, int, float, complex, str, bytes)


# Naming ---------------------------------------------------------------------------------------


def described(value: Any) -> dict[str, Any]:
    """Return the name and the parameters by which a study names an object.

    Parameters
    ----------
    value : object
        A function or a class; an instance of a dataclass, such as a Flax module, or of a
        transformer of scikit-learn; a `functools.partial`; a `scaling_study.Problem`.

    Raises
    ------
    StudyError
        If it is none of these, or nothing can be found that identifies it.
    """
    if isinstance(value, functools.partial) and not value.args:
        inner = described(value.func)
        if HERE not in inner["name"] and all(map(_is_plain, value.keywords.values())):
            return {**inner, **value.keywords}
    made = _made_by(value)
    if made is not None:
        return {"name": _reference(type(value)) or _keep(type(value)), **made}
    if callable(value) or hasattr(value, "fit") or hasattr(value, "draw"):
        return {"name": _reference(value) or _keep(value)}
    if hasattr(value, "update") and hasattr(value, "init"):
        raise StudyError(
            "an Optax transformation has its learning rate already, which a study varies; give"
            " the function that makes it, such as optax.adam"
        )
    raise StudyError(f'{value!r} is neither a name nor a table {{name = "...", ...}}')


def kept(name: str) -> Any:
    """Return the object of this process that `described` named."""
    if name not in _objects:
        raise CodeError(ELSEWHERE)
    return _objects[name]


def _keep(value: Any) -> str:
    of = value if hasattr(value, "__qualname__") else type(value)
    label = "".join(c for c in of.__qualname__.rpartition(".")[2] if c.isalnum() or c == "_")
    name = f"{of.__module__ or 'builtins'}:{label}{HERE}{digest(value)}"
    _objects[name] = value
    return name


def _reference(value: Any) -> str:
    """Return where a function or a class is imported from, the shortest path; else nothing."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier():
        return ""
    parts = module.split(".")
    for stop in range(1, len(parts) + 1):
        path = ".".join(parts[:stop])
        if getattr(sys.modules.get(path), name, None) is value:
            return f"{path}:{name}"
    return ""


def _made_by(value: Any) -> dict[str, Any] | None:
    """Return the arguments with which an instance is made again, None if that is not known."""
    given = _arguments(value)
    if given is None:
        return None
    parts = inspect.signature(type(value)).parameters
    defaults = {name: part.default for name, part in parts.items()}
    changed = {k: v for k, v in given.items() if not (k in defaults and _same(defaults[k], v))}
    return changed if all(map(_is_plain, changed.values())) and "name" not in changed else None


MODULE_FIELDS = ("parent", "name")  # of a Flax module, its place in another one


def _arguments(value: Any) -> dict[str, Any] | None:
    """Return the arguments of an instance of a dataclass or an estimator; None of any other."""
    if isinstance(value, type):
        return None
    if hasattr(value, "get_params"):
        return value.get_params(deep=False)
    if not dataclasses.is_dataclass(value):
        return None
    fields = [f.name for f in dataclasses.fields(value) if f.init and f.name not in MODULE_FIELDS]
    return {name: getattr(value, name) for name in fields}


def _same(one: Any, other: Any) -> bool:
    return one is other or (_is_plain(one) and _is_plain(other) and one == other)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float) and value == value


# Identity of what is imported -----------------------------------------------------------------


def source_digest(module: ModuleType, attribute: str) -> str:
    """Return twelve hexadecimal digits of the source of a module's attribute.

    It counts the statements of the module that define it, and those that define any name that
    these use. Other statements, comments and the layout of lines do not count.
    """
    value = inspect.unwrap(getattr(module, attribute))
    if inspect.isfunction(value) or isinstance(value, type):  # perhaps of another module
        module = sys.modules.get(value.__module__, module)
        attribute = value.__qualname__.partition(".")[0]
    try:
        statements = ast.parse(inspect.getsource(module)).body
    except (OSError, TypeError):  # a module built into Python has none
        return "no source"
    texts, wanted = dict[int, str](), {attribute}
    while found := {
        k: statement
        for k, statement in enumerate(statements)
        if k not in texts and wanted & _changed(statement)
    }:
        for k, statement in found.items():
            texts[k] = ast.unparse(statement)
            wanted |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return _hash(texts[k] for k in sorted(texts))


def _changed(statement: ast.stmt) -> set[str]:
    """Return the names of a module that a statement of it defines or changes."""
    names = set[str]()
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
    parts = [statement.value] if isinstance(statement, ast.Expr) else []
    parts += getattr(statement, "targets", []) or [getattr(statement, "target", None)]
    for part in parts:  # table["key"] = 3, table.update(...)
        while isinstance(part, ast.Call | ast.Attribute | ast.Subscript):
            part = part.func if isinstance(part, ast.Call) else part.value
            if isinstance(part, ast.Name):
                names.add(part.id)
                break
    return names


# Identity of objects of this process ----------------------------------------------------------


def digest(value: Any) -> str:
    """Return twelve hexadecimal digits of an object's own source and of what it uses.

    What it uses are the values that it refers to, and the functions and classes among them of
    its own module. Other code of that module, comments and the layout of lines do not count.

    Raises
    ------
    StudyError
        If it refers to something that nothing identifies, such as an open file.
    """
    return _hash(_parts(value, {}))


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:DIGITS]


def _parts(value: Any, seen: dict[int, Any], home: str | None = None) -> Iterator[str]:
    """Yield what identifies a value, and all that it refers to in the module ``home``."""
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object has its id meanwhile
    value = inspect.unwrap(value) if callable(value) else value
    home = home or _module_of(value)
    if isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, tuple | list):
        yield type(value).__name__
        for item in value:
            yield from _parts(item, seen, home)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield repr(key)
            yield from _parts(item, seen, home)
    elif isinstance(value, functools.partial):
        yield from _parts((value.func, value.args, value.keywords), seen, home)
    elif inspect.ismethod(value):
        yield from _parts((value.__func__, value.__self__), seen, home)
    elif (inspect.isfunction(value) or isinstance(value, type)) and _is_own(value, home):
        yield from _of_code(value, seen, home)
    elif callable(value) and hasattr(value, "__qualname__"):  # of another module, or built in
        yield f"{value.__module__}:{value.__qualname__}"
    else:
        yield from _of_instance(value, seen, home)


def _of_code(value: Any, seen: dict[int, Any], home: str | None) -> Iterator[str]:
    """Yield the source of a function or a class, and what its names refer to."""
    tree = _tree(value)
    functions = list(_functions(value))
    if tree is not None:
        yield ast.unparse(tree)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    else:
        codes = [code for function in functions for code in _codes(function.__code__)]
        names = {name for code in codes for name in code.co_names}
        for code in codes:
            plain = [c for c in code.co_consts if not isinstance(c, CodeType)]
            yield repr((code.co_code, plain, code.co_names, code.co_varnames))
    spaces = [vars(sys.modules[value.__module__])] if value.__module__ in sys.modules else []
    for function in functions:
        spaces += [function.__globals__, inspect.getclosurevars(function).nonlocals]
        yield from _parts((function.__defaults__, function.__kwdefaults__), seen, home)
    known: dict[str, Any] = {}
    for space in spaces:
        known |= {name: space[name] for name in names if name in space}
    for name in sorted(known):
        yield name
        yield from _parts(known[name], seen, home)
    for base in getattr(value, "__bases__", ()):
        yield from _parts(base, seen, home)


def _of_instance(value: Any, seen: dict[int, Any], home: str | None) -> Iterator[str]:
    yield from _parts(type(value), seen, home)
    given = _arguments(value)
    if given is not None:
        yield from _parts(given, seen, home)
        return
    try:
        yield hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:
        raise StudyError(
            f"your code refers to an object of {type(value).__name__!r}, whose content cannot be"
            " known; define the code in a module, and name it as package.module:name"
        ) from None


def _module_of(value: Any) -> str | None:
    return getattr(value, "__module__", None) or getattr(type(value), "__module__", None)


def _is_own(value: Any, home: str | None) -> bool:
    return value.__module__ == home or value.__module__ == "__main__"


def _tree(value: Any) -> ast.AST | None:
    """Return the syntax of a function or class; None of a lambda, or where no source is found."""
    if value.__name__ == "<lambda>":
        return None
    with suppress(OSError, TypeError, SyntaxError):
        return ast.parse(textwrap.dedent(inspect.getsource(value)))
    return None


def _functions(value: Any) -> Iterator[Callable[..., Any]]:
    """Yield a function, or those of a class."""
    if inspect.isfunction(value):
        yield value
        return
    for part in vars(value).values():
        for inner in (part, *(getattr(part, name, None) for name in ("__func__", "fget"))):
            unwrapped = inspect.unwrap(inner) if callable(inner) else None
            if inspect.isfunction(unwrapped) and unwrapped.__module__ == value.__module__:
                yield unwrapped


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
