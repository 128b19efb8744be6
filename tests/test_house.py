"""The plan of the house holds: small wings of small rooms, arrows that point one way, one base of errors, one public face."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ti_nb as ti

PACKAGE = Path(ti.__file__).parent
ROOMS, LINES = 8, 300
WINGS = (
    "host",
    "pictures",
    "models",
    "words",
    "files",
    "training",
    "beyond",
    "results",
    "hub",
    "widgets",
    "jobs",
)  # each may import those before it
MODULES = sorted(PACKAGE.rglob("*.py"))
PANEL = ("ti_nb.training.run", "ti_nb.widgets.train.panel")  # `Run.panel` opens the one thing that stands above it

PROTOCOL = ("StopIteration", "AttributeError", "KeyboardInterrupt", "AssertionError")  # what Python itself asks for
CAUGHT = [  # raised to code of the same wing, or by a method that Python calls: a user never sees them
    ("host", "KeyError"),
    ("hub", "TypeError"),
    ("hub", "TimeoutError"),
    ("pictures", "UnicodeError"),
]


def name_of(path: Path) -> str:
    parts = ("ti_nb", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def inner(node: ast.AST, types: bool) -> Iterator[ast.ImportFrom]:
    """Relative imports, those within functions too; with `types` also those that are only for a type checker."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.level:
            yield child
        if types or not is_for_types(child):
            yield from inner(child, types)


def targets(path: Path, *, types: bool) -> set[str]:
    """The modules of the package that a module imports."""
    known = {name_of(p) for p in MODULES}
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    found = set()
    for node in inner(tree(path), types):
        base = ".".join(
            package.split(".")[: len(package.split(".")) - node.level + 1] + ([node.module] if node.module else [])
        )
        found |= {full if (full := f"{base}.{alias.name}") in known else base for alias in node.names}
    return found - {name_of(path)}


@cache
def arrows(types: bool) -> dict[str, set[str]]:
    return {
        name_of(path): targets(path, types=types) - ({PANEL[1]} if name_of(path) == PANEL[0] else set())
        for path in MODULES
    }


def circles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Modules that reach themselves, with all that they reach on the way back."""
    reach = {start: _reached(graph, start) for start in graph}
    return sorted(
        {tuple(sorted(m for m in reach[start] if start in reach[m])) for start in graph if start in reach[start]}
    )


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        if (name := ahead.pop()) not in seen:
            seen.add(name)
            ahead += graph.get(name, ())
    return seen


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES if path.parent != PACKAGE}), ids=name_of)
def test_no_wing_has_too_many_rooms(folder: Path) -> None:
    rooms = [
        p.name
        for p in folder.iterdir()
        if (p.suffix == ".py" and p.name != "__init__.py") or (p / "__init__.py").exists()
    ]
    assert len(rooms) <= ROOMS, f"{name_of(folder)} has {len(rooms)} rooms: {', '.join(sorted(rooms))}"


def test_no_room_is_too_long() -> None:
    long = {name_of(path): n for path in MODULES if (n := len(path.read_text(encoding="utf-8").splitlines())) > LINES}
    assert not long, f"more than {LINES} lines: {long}"


def test_every_wing_says_its_idea() -> None:
    assert {p.parent.name for p in PACKAGE.glob("*/__init__.py")} == set(WINGS)
    assert all(ast.get_docstring(tree(PACKAGE / wing / "__init__.py")) for wing in WINGS)


@pytest.mark.parametrize("types", [False, True], ids=["at run time", "for types"])
def test_no_modules_import_each_other_in_a_circle(types: bool) -> None:
    assert circles(arrows(types)) == []


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [("b", "c")]
    assert "ti_nb.training.run" in arrows(True)["ti_nb.training.start"]


def test_the_flow_is_one_way() -> None:
    """Imports only for types count as well: a signature that names what stands above knows of it."""
    rank = {wing: number for number, wing in enumerate(WINGS)}
    upward = [
        f"{name} imports {target}"
        for name, found in arrows(True).items()
        for target in found
        if name.count(".") >= 2 and target.count(".") >= 1
        if rank.get(target.split(".")[1], -1) > rank[name.split(".")[1]]
    ]
    assert not upward, "\n".join(upward)


def test_every_class_of_errors_is_one_of_ours() -> None:
    classes = {
        n.name: [ast.unparse(b).split(".")[-1] for b in n.bases]
        for p in MODULES
        for n in ast.walk(tree(p))
        if isinstance(n, ast.ClassDef)
    }

    def ancestors(name: str) -> set[str]:
        return {name}.union(*map(ancestors, classes.get(name, [])))

    others = [name for name in classes if any(map(is_builtin, ancestors(name))) and "TiError" not in ancestors(name)]
    assert not others, others


def is_builtin(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return inspect.isclass(kind) and issubclass(kind, BaseException)


def test_no_builtin_error_is_raised() -> None:
    bare = [
        f"{name_of(path)}:{node.lineno} raises {name}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Raise) and node.exc is not None
        if is_builtin(name := ast.unparse(node.exc).partition("(")[0])
        if name not in PROTOCOL and (path.parent.name, name) not in CAUGHT
    ]
    assert not bare, "\n".join(bare)


def public() -> dict[str, str]:
    """Each public name that is no wing, and the wing that hands it on."""
    body = ast.parse((PACKAGE / "__init__.pyi").read_text()).body
    return {
        alias.asname or alias.name: node.module or ""
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def definitions() -> Counter[str]:
    """How often each name is defined at the top of a module: a function, a class, or a constant that is not private."""
    found: Counter[str] = Counter()
    for path in MODULES:
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] += 1
            elif isinstance(node, ast.Assign):
                found.update(t.id for t in node.targets if isinstance(t, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] += 1
    return found


def test_every_public_name_is_defined_once_and_documented() -> None:
    count = definitions()
    assert {name: count[name] for name in public() if count[name] != 1} == {}
    values = {name: getattr(ti, name) for name in public()}
    assert [name for name, value in values.items() if callable(value) and not inspect.getdoc(value)] == []


def test_the_face_says_each_name_once() -> None:
    body = ast.parse((PACKAGE / "__init__.pyi").read_text()).body
    names = [alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == sorted(set(names)) and set(names) - {"__version__"} <= set(dir(ti))


def test_no_module_bears_a_public_name() -> None:
    """Importing a module sets an attribute of its package, which would hide what the package hands on by that name."""
    faces = {face.parent: face.read_text() for face in PACKAGE.rglob("__init__.pyi")}
    rooms = [path.parent if path.name == "__init__.py" else path for path in MODULES]
    hidden = [name_of(r) for r in rooms if re.search(rf"^from \S+\w import {r.stem} as", faces.get(r.parent, ""), re.M)]
    assert not hidden, hidden


@pytest.mark.parametrize("name", ["load_model", "train", "adjust", "mix"])
def test_what_is_looked_up_most_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(ti, name)) or "")
