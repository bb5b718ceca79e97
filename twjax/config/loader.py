"""gin files, then command-line bindings, become one checked dataclass tree.

gin is only a constructor here: it builds frozen dataclasses and nothing else is configurable.
What gin itself leaves unchecked (types, bindings that nobody reads, required values) is checked
here, and each error names the file and line of the binding at fault.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pathlib
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import gin

from twjax.config import schema

T = TypeVar("T")

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# The repository's folder beside the package, or the copy that travels inside the wheel.
CONFIG_ROOTS = (_PACKAGE.parent / "configs", _PACKAGE / "_configs")

_INCLUDE = re.compile(r"""^\s*include\s+(['"])(?P<path>.+?)\1\s*(#.*)?$""")
_IMPORT = re.compile(r"^\s*import\s+(?P<module>[A-Za-z_][\w.]*)\s*(#.*)?$")
_BINDING = re.compile(r"^\s*(?:[\w/]+/)?(?P<name>[A-Za-z_]\w*)\.(?P<field>\w+)\s*=")
_MACRO = re.compile(r"^\s*(?P<name>[A-Za-z_]\w*)\s*=")


class ConfigError(ValueError):
    """A configuration that can't be used; the message says where and what to do."""


@dataclasses.dataclass(frozen=True)
class Loaded(Generic[T]):
    """A configuration tree, the text that rebuilds it, and the registries it imports.

    `text` is gin's operative configuration: loading it gives an equal `value`.
    """

    value: T
    text: str
    imports: tuple[str, ...]


def resolve(path: str | pathlib.Path) -> pathlib.Path:
    """Finds a configuration file: as given, or below the `configs/` that ships with twjax."""
    path = pathlib.Path(path)
    candidates = [path]
    if not path.is_absolute():
        tail = pathlib.Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
        candidates += [root / tail for root in CONFIG_ROOTS]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = sorted(
        str(file.relative_to(root)) for root in CONFIG_ROOTS for file in root.rglob("*.gin")
    )
    raise ConfigError(f"No configuration file {path}.{_nearest(str(path), known)}")


def load(
    root: type[T],
    files: Sequence[str | pathlib.Path],
    overrides: Sequence[str] = (),
    *,
    classes: Iterable[type] = (),
    run_imports: bool = False,
) -> Loaded[T]:
    """Builds `root` from gin files and `overrides` ("Schedule.peak = 1e-4").

    `classes` are dataclasses beyond `schema`'s that the files may construct. `import` lines name
    SeqIO registries; they are recorded, and executed only with `run_imports`, because importing
    one loads TensorFlow.
    """
    known = {cls.__name__: cls for cls in _schema_classes()}
    known |= {cls.__name__: cls for cls in (root, *classes)}
    # A load before this one has locked gin, also against new classes.
    gin.clear_config()
    _register(known.values())
    source = _Source(known)
    for file in files:
        source.parse_file(resolve(file))
    for text in overrides:
        source.parse_text([text], "--set")
    try:
        gin.finalize()
        value = gin.get_configurable(root.__name__)()
    except Exception as error:
        raise source.explain(error) from error
    source.reject_unused()
    imports = tuple(dict.fromkeys(source.imports))
    if run_imports:
        for module in imports:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise ConfigError(f"import {module}: {error}.") from error
    header = "".join(f"import {module}\n" for module in imports)
    return Loaded(value, header + gin.operative_config_str(), imports)


def _schema_classes() -> list[type]:
    named = vars(schema).values()
    return [c for c in named if isinstance(c, type) and dataclasses.is_dataclass(c)]


_registered: set[type] = set()


def _register(classes: Iterable[type]) -> None:
    for cls in classes:
        if cls not in _registered:
            gin.register(cls.__name__, module="twjax")(_checked(cls))
            _registered.add(cls)


def _checked(cls: type) -> Callable[..., Any]:
    """Returns a constructor of `cls` that checks types before `__post_init__` compares values."""
    hints = typing.get_type_hints(cls)
    required = [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    def build(**values: Any) -> Any:
        missing = [name for name in required if name not in values]
        if missing:
            names = ", ".join(f"{cls.__name__}.{name}" for name in missing)
            raise ConfigError(f"No value for {names}; bind it in a file or with --set.")
        for name, value in values.items():
            if not _fits(value, hints[name]):
                raise ConfigError(_type_message(f"{cls.__name__}.{name}", value, hints[name]))
        return cls(**values)

    # gin reads the parameters' names and defaults from the signature.
    build.__signature__ = inspect.signature(cls)  # type: ignore[attr-defined]
    return build


class _Source:
    """The files and lines that bindings come from, so that errors can name them."""

    def __init__(self, known: dict[str, type]):
        self._known = known
        self._places: dict[tuple[str, str], str] = {}
        self.imports: list[str] = []

    def parse_file(self, path: pathlib.Path, trail: tuple[pathlib.Path, ...] = ()) -> None:
        if path in trail:
            raise ConfigError(f"{trail[-1]}: include of {path} goes in a circle.")
        self.parse_text(path.read_text(encoding="utf-8").splitlines(), str(path), (*trail, path))

    def parse_text(self, lines: list[str], name: str, trail: tuple[pathlib.Path, ...] = ()) -> None:
        """Hands the lines to gin; includes are followed where they stand, imports recorded."""
        start = 0
        for number, line in enumerate(lines):
            if include := _INCLUDE.match(line):
                self._give(lines[start:number], name, start)
                self.parse_file(resolve(include["path"]), trail)
                start = number + 1
            elif imported := _IMPORT.match(line):
                self._give(lines[start:number], name, start)
                self.imports.append(imported["module"])
                start = number + 1
        self._give(lines[start:], name, start)

    def _give(self, lines: list[str], name: str, offset: int) -> None:
        for number, line in enumerate(lines, start=offset + 1):
            where = name if name == "--set" else f"{name}:{number}"
            if binding := _BINDING.match(line):
                self._check_name(binding["name"], binding["field"], where)
                self._places[binding["name"], binding["field"]] = where
            elif macro := _MACRO.match(line):
                self._places[macro["name"], ""] = where
        try:
            # Blank lines keep gin's own line numbers those of the file.
            gin.parse_config("\n".join([""] * offset + lines))
        except Exception as error:
            raise self.explain(error, name) from error

    def _check_name(self, name: str, field: str, where: str) -> None:
        cls = self._known.get(name)
        if cls is None:
            raise ConfigError(f"{where}: no class {name}.{_nearest(name, list(self._known))}")
        fields = [f.name for f in dataclasses.fields(cls)]
        if field not in fields:
            raise ConfigError(f"{where}: {name} has no field {field}.{_nearest(field, fields)}")

    def place(self, owner: str, field: str) -> str:
        """Returns "file:line: " of the binding that set the field, or nothing."""
        where = self._places.get((owner, field))
        return f"{where}: " if where else ""

    def explain(self, error: Exception, name: str = "") -> ConfigError:
        """Turns gin's or a dataclass's error into one line that says where."""
        first = str(error).strip().split("\n")[0]
        first = re.sub(r"\s*In call to configurable.*", "", first)
        if reference := re.search(r"reference '@(?:\w+/)*(\w+)", first):
            first += _nearest(reference[1], list(self._known))
        if field := re.match(r"(\w+)\.(\w+)", first):
            return ConfigError(self.place(field[1], field[2]) + first)
        return ConfigError(f"{name}: {first}" if name else first)

    def reject_unused(self) -> None:
        """A binding that nothing reads is a mistake, not a comment."""
        unused = sorted(_sections(gin.config_str()) - _sections(gin.operative_config_str()))
        if unused:
            names = ", ".join(unused)
            where = next((p for (n, _), p in self._places.items() if n == unused[0]), "")
            raise ConfigError(
                f"{where + ': ' if where else ''}{names} is bound but nothing uses it; refer to "
                f"it (… = @{unused[0]}()) or delete it."
            )


def _sections(text: str) -> set[str]:
    """Returns the classes and macros that a gin text binds."""
    classes = set(re.findall(r"^# Parameters for (?:twjax\.)?(\S+):$", text, re.M))
    macros = set(re.findall(r"^([A-Za-z_]\w*) = ", text, re.M))
    return classes | macros


def _nearest(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


def _type_message(path: str, value: Any, hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    expected = re.sub(r"typing\.|twjax\.config\.\w+\.", "", name)
    return f"{path} ({value!r}, a {type(value).__name__}) must be {expected}."


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; an int is also a float, a bool is no int."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(item, args[0]) for item in value)
        return len(value) == len(args) and all(map(_fits, value, args))
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items()
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
