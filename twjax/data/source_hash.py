"""What a function's code is, from its file's text: nothing is imported to find out."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.util
import pathlib
import re


def source_sha256(name: str) -> str:
    """Returns the hex SHA-256 of the code behind "module.qualname".

    Hashed are the text of the definition, decorators included, and of every definition that it
    reaches by name inside its own top-level package, whichever module that one is in, and the
    files below a folder `tables` beside such a module, or beside its package, that these name in a
    string. Text is hashed
    rather than a syntax tree, whose dump differs between Python versions. Raises ValueError when
    the name has no definition in a Python file.
    """
    _parse.cache_clear()  # A file may have changed since the last call.
    module, path = _split(name)
    package = module.partition(".")[0]
    found: dict[str, str] = {}
    pending = [(module, path)]
    while pending:
        module, path = pending.pop()
        source = _parse(module)
        key = f"{module}.{path}"
        if source is None or key in found:
            continue
        node = source.find(path)
        if node is None:
            continue
        found[key] = source.text(node)
        for table in source.tables(node):
            found[str(table.name)] = hashlib.sha256(table.read_bytes()).hexdigest()
        for reached in source.reaches(node):
            if reached.partition(".")[0] == package:
                try:
                    pending.append(_split(reached))
                except ValueError:
                    continue
    digest = hashlib.sha256()
    for key in sorted(found):
        digest.update(f"{key}\0{found[key]}\0".encode())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Source:
    """One parsed module: its definitions and the names that it imports."""

    module: str
    file: pathlib.Path
    is_package: bool
    lines: tuple[str, ...]
    definitions: dict[str, ast.stmt]
    imports: dict[str, str]

    def find(self, path: str) -> ast.stmt | None:
        """Returns the definition of a dotted path: a function, a class, a method, a constant."""
        first, *rest = [part for part in path.split(".") if part != "<locals>"]
        node = self.definitions.get(first)
        for part in rest:
            inner = [child for child in ast.walk(node) if child is not node] if node else []
            node = next((c for c in inner if isinstance(c, _NAMED) and c.name == part), None)
        return node

    def text(self, node: ast.stmt) -> str:
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(d.lineno for d in decorators)])
        return "\n".join(self.lines[start - 1 : node.end_lineno])

    def tables(self, node: ast.stmt) -> list[pathlib.Path]:
        """Returns the files of data that a definition names."""
        folders = (self.file.parent / "tables", self.file.parent.parent / "tables")
        names = {
            child.value
            for child in ast.walk(node)
            if isinstance(child, ast.Constant)
            and isinstance(child.value, str)
            and _FILE_NAME.fullmatch(child.value)
        }
        paths = [folder / name for folder in folders for name in sorted(names)]
        return [path for path in paths if path.is_file()]

    def reaches(self, node: ast.stmt) -> set[str]:
        """Returns the full dotted names that a definition mentions."""
        names = set()
        imports = dict(self.imports)
        for child in ast.walk(node):
            imports |= _imported(child, self.module, self.is_package)
        for child in ast.walk(node):
            parts: list[str] = []
            while isinstance(child, ast.Attribute):
                parts.insert(0, child.attr)
                child = child.value
            if not isinstance(child, ast.Name):
                continue
            if child.id in self.definitions:
                names.add(f"{self.module}.{child.id}")
            elif child.id in imports:
                names.add(".".join([imports[child.id], *parts]))
        return names


_FILE_NAME = re.compile(r"\w[\w.-]{0,99}\.\w{1,9}")
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _split(name: str) -> tuple[str, str]:
    """Splits a dotted name into the longest module that has it and the path in that module."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module, path = ".".join(parts[:cut]), ".".join(parts[cut:])
        source = _parse(module)
        if source is None:
            continue
        if source.find(path) is not None:
            return module, path
        # A package may re-export the name from the module that defines it.
        target = source.imports.get(parts[cut])
        if target is not None and target != name:
            return _split(".".join([target, *parts[cut + 1 :]]))
    raise ValueError(
        f"{name}: no such definition in a Python file; a preprocessor must be a named function "
        "of an importable module."
    )


@functools.cache
def _parse(module: str) -> _Source | None:
    spec = _find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = pathlib.Path(spec.origin)
    text = file.read_text(encoding="utf-8")
    is_package = spec.submodule_search_locations is not None
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, str] = {}
    for node in _module_level(ast.parse(text)):
        if isinstance(node, _NAMED):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    definitions[target.id] = node
        else:
            imports |= _imported(node, module, is_package)
    return _Source(module, file, is_package, tuple(text.splitlines()), definitions, imports)


def _imported(node: ast.AST, module: str, is_package: bool) -> dict[str, str]:
    """Returns the names that an import statement binds, each with what it stands for."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            up = module.split(".") if is_package else module.split(".")[:-1]
            up = up[: len(up) - (node.level - 1)]
            base = ".".join([*up, *([base] if base else [])])
        return {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    return {}


def _module_level(tree: ast.Module) -> list[ast.stmt]:
    """Returns the statements of a module, those under `if` and `try` included."""
    statements: list[ast.stmt] = []
    pending: list[ast.AST] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If | ast.Try):
            pending.extend(reversed(list(ast.iter_child_nodes(node))))
        elif isinstance(node, ast.ExceptHandler):
            pending.extend(reversed(node.body))
        elif isinstance(node, ast.stmt):
            statements.append(node)
    return statements


def _find_spec(module: str) -> importlib.machinery.ModuleSpec | None:
    """Finds a module's file. `importlib.util.find_spec` alone would import its parents."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        locations = list(spec.submodule_search_locations)
        spec = importlib.machinery.PathFinder.find_spec(f"{spec.name}.{part}", locations)
    return spec
