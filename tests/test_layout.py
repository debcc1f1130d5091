"""The rooms: echod's modules import in one direction only, and private names of upstream stay in one room."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import echod

ROOMS = [
    "core",
    "settings",
    "upstream",
    "http",
    "net",
    "lane",
    "faults",
    "websocket",
    "echo",
    "web",
    "run",
    "help",
    "options",
    "plugin",
    "serve",
    "check",
    "completion",
    "testing",
    "pytest_plugin",
    "__main__",
]
"""The rooms from the bottom up: each may import those before it. Most are folders, and the files of one folder may
import each other."""

OF_CHECK = {"check", "core", "upstream", "http"}
"""The rooms that the check may import. The check must start without loading the daemon."""

OF_TESTS = {"testing"}
"""The room that a test suite may import. A test's process must not load the daemon."""

PUBLIC = {"_exit", "_replace"}
"""Public names that begin with an underscore: of `os`, and of a NamedTuple."""

FOLDER = Path(echod.__file__).parent

ARCHITECTURE = Path(__file__).parent.parent / "docs" / "architecture.md"


class WithoutTypeChecking(ast.NodeTransformer):
    """Drops imports that are only for types. Two files may import each other's types."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        """Drop `if TYPE_CHECKING:`."""
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def imported(tree: ast.AST) -> set[str]:
    """Return the rooms that are imported at run time."""
    names = set()
    for node in ast.walk(WithoutTypeChecking().visit(tree)):
        if isinstance(node, ast.ImportFrom) and node.module == "echod":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("echod."):
            names.add((node.module or "").split(".")[1])
    return names - {"__version__"}


def test_imports_go_one_way() -> None:
    files, folders = FOLDER.glob("[!_]*.py"), FOLDER.glob("*/__init__.py")
    assert {path.stem for path in files} | {path.parent.name for path in folders} == {*ROOMS} - {"__main__"}
    for path in FOLDER.rglob("*.py"):
        room = path.relative_to(FOLDER).parts[0].removesuffix(".py")
        match room:
            case "__init__":
                allowed = set()
            case "check":
                allowed = OF_CHECK
            case "testing" | "pytest_plugin":
                allowed = OF_TESTS
            case _:
                allowed = {*ROOMS[: ROOMS.index(room) + 1]}
        assert imported(ast.parse(path.read_text())) <= allowed, path


def imported_files(path: Path) -> set[Path]:
    """Return the files of echod that a file imports, for types alone, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("echod."):
            module = FOLDER.joinpath(*(node.module or "").split(".")[1:])
            candidates = [module.with_suffix(".py"), *(module / f"{alias.name}.py" for alias in node.names)]
            found |= {candidate for candidate in candidates if candidate.exists()}
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    """Files do not even name each other for types. A connection is the exception: its lowest file names the whole class
    and the factory that made it."""
    base = FOLDER / "websocket" / "base.py"
    imports = {path: imported_files(path) for path in FOLDER.rglob("*.py")}
    imports[base] -= {FOLDER / "websocket" / "connection.py", FOLDER / "websocket" / "factory.py"}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the files


def test_the_tests_have_the_same_rooms() -> None:
    """A file of tests for one file of echod is in the folder of the same name."""
    tests = Path(__file__).parent
    files = {path.relative_to(FOLDER) for path in FOLDER.rglob("[!_]*.py")}
    for path in files:
        test = tests / path.parent / f"test_{path.name}"
        assert test.exists(), path


def test_the_architecture_names_each_file() -> None:
    """docs/architecture.md has every file in its table of rooms, and no other; a C file stands for its header, too."""
    table = re.search(r"^\| room \| file \|.*\n((?:\|.*\n)*)", ARCHITECTURE.read_text(), re.MULTILINE)
    assert table is not None
    room, named = "", []
    for place, names in re.findall(r"^\| (.*?) ?\| (.*?) ?\|", table[1], re.MULTILINE):
        if place.endswith("/`"):
            room = place.strip("`")
        named += re.findall(r"`(\w+\.py)`", place)
        named += [room + name for name in re.findall(r"`([\w/]+\.\w+)`", names)]
    paths = [path for path in FOLDER.rglob("*") if path.suffix in {".py", ".c", ".h", ".html"}]
    headers = {path.with_suffix(".h") for path in paths if path.suffix == ".c"}
    files = [path for path in paths if path.stem != "__init__" and path not in headers]
    assert sorted(named) == sorted(path.relative_to(FOLDER).as_posix() for path in files)


def test_the_tests_that_are_left_out_exist() -> None:
    """pytest ignores a path that is not there, and so would run a test that was moved."""
    root = Path(__file__).parent.parent
    makefile, noxfile = (root / "Makefile").read_text(), (root / "noxfile.py").read_text()
    lists = re.findall(r"^(?:WITH_DAEMON|APART|ELSEWHERE) \+?= \[(.*?)\]", noxfile, re.MULTILINE | re.DOTALL)
    names = [f"tests/{name}" for text in lists for name in re.findall(r'"([\w./]+)"', text)]
    names += re.findall(r"\btests/[\w/*-]+(?:\.\w+)?", makefile)
    missing = [name for name in names if not any(root.glob(name)) and "node_modules" not in name]
    assert names
    assert missing == []


def private(name: str) -> bool:
    """Tell whether a name begins with exactly one underscore, and is more than that underscore."""
    return name.startswith("_") and not name.startswith("__") and name != "_"


def test_private_names_of_upstream_stay_in_one_room() -> None:
    """Outside `upstream`, each private attribute that the code uses is also defined there: as a function, or on `self`
    or a class."""
    defined, used = set(PUBLIC), {}
    for path in FOLDER.rglob("*.py"):
        if path.is_relative_to(FOLDER / "upstream"):
            continue
        for node in ast.walk(WithoutTypeChecking().visit(ast.parse(path.read_text()))):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.Attribute(attr=name) if private(name):
                    used[name] = path.name
                case ast.ImportFrom(module=str(module), names=aliases) if module.split(".")[0] != "echod":
                    used |= {
                        part: path.name
                        for part in [*module.split("."), *(alias.name for alias in aliases)]
                        if private(part)
                    }
    assert {name: file for name, file in used.items() if name not in defined} == {}


def test_each_file_says_what_it_is_for() -> None:
    for path in FOLDER.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path.name


def test_no_module_imports_the_reactor_at_its_top() -> None:
    for path in FOLDER.rglob("*.py"):
        assert not re.search(r"^(from|import) .*\breactor$", path.read_text(), flags=re.M), path.name


def test_a_check_loads_no_more_than_its_rooms() -> None:
    """A check that has run through all its imports, in a process of its own, has not loaded the daemon."""
    program = """
import sys
from echod.__main__ import main
main(["check", "ws://127.0.0.1:1"], sys.stdout, sys.stderr)
print(*(name for name in sys.modules if name.startswith("echod.")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    report, *_, loaded = done.stdout.splitlines()
    assert report.startswith("CRITICAL - TCP: Connection refused")
    rooms = {name.split(".")[1] for name in loaded.split()}
    assert rooms == OF_CHECK | {"__main__"}
