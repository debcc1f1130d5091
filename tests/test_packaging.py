"""What is built, what it contains, and that Twisted finds the plugin wherever echod is installed, and nowhere after
that.

Each way of installing gets a virtual environment of its own, without echod and separate from the tests' environment.
The dependencies of echod and its build backend are copied into it, file by file as their records list them. So the
tests need no network, and pip still checks that the dependencies suffice. A link to the tests' environment would not
do, because echod's own files could be found there.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from importlib.metadata import Distribution, distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from echod import __version__
from echod.lane.native import build as build_native
from tests.daemon import run, script
from tests.stock.readme import Readme
from tests.tools import give_up

ROOT = Path(__file__).parents[1]

LISTED = re.compile(r"^ +echod +A WebSocket echo daemon$", re.MULTILINE)

# Left in a checkout by other work. None of it may be shipped.
LITTER = (
    "twisted/plugins/dropin.cache",
    "echod/__pycache__/service.cpython-311.pyc",
    "tests/interop/node_modules/ws/index.js",
    "twistd.log",
    "twistd.pid",
)

PLUGIN = "twisted/plugins/echod_plugin.py"

NOT_SHIPPED = ("__pycache__", "*.pyc", "*.so", "*dropin.cache*", "node_modules")

DEADLINE = 600.0
"""Time limit in seconds for pip, or for a start of Python without bytecode: 30 s when four of them share two cores."""

# Without a compiler the tests build without the express lane, unless nothing may be missing.
NATIVE = "1" if shutil.which("cc") or os.environ.get("ECHOD_TEST_REQUIRE") == "all" else "0"

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD_REQUIREMENTS: list[str] = PROJECT["build-system"]["requires"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a copy of this checkout with some litter in it."""
    path: Path = tmp_path_factory.mktemp("checkout") / "echod"
    names = {
        "echod",
        "twisted",
        "tests",
        "benchmarks",
        "docs",
        "etc",
        *(file.name for file in ROOT.iterdir() if file.is_file()),
    }
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        elif (ROOT / name).is_file():
            path.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    for name in LITTER:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("litter")
    return path


@pytest.fixture(scope="module")
def dist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the wheel and the sdist. The wheel is built from the sdist, as `build` does by default."""
    path: Path = tmp_path_factory.mktemp("dist")
    build(checkout, path)
    assert len(list(path.iterdir())) == 2
    return path


def build(checkout: Path, target: Path) -> None:
    """Build a wheel and an sdist with a fixed timestamp, with the tools that are installed here."""
    done = run(
        *[sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(checkout)],
        env={**os.environ, "ECHOD_NATIVE": NATIVE, "SOURCE_DATE_EPOCH": "1700000000"},
        deadline=DEADLINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("echod-*.whl"))


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    return next(dist.glob("echod-*.tar.gz"))


def test_the_listed_pythons_are_those_of_the_compatibility_tests() -> None:
    listed = re.search(r"^PYTHONS = \[(.*)\]$", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    assert listed is not None
    classifier = "Programming Language :: Python :: "
    named = [line.removeprefix(classifier) for line in PROJECT["project"]["classifiers"] if line.startswith(classifier)]
    assert named == re.findall(r'"(.*?)"', listed[1])
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_the_wheel_is_for_every_allowed_python(wheel: Path) -> None:
    oldest = ".".join(map(str, build_native.OLDEST))
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    python = f"cp{oldest.replace('.', '')}-abi3-linux_{platform.machine()}" if NATIVE == "1" else "py3-none-any"
    assert wheel.name == f"echod-{__version__}-{python}.whl"


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    """`nox --session oldest` installs exactly the lower bounds."""
    floors = {}
    for line in PROJECT["project"]["dependencies"]:
        (floor,) = (one for one in Requirement(line).specifier if one.operator == ">=")
        floors[canonicalize_name(Requirement(line).name)] = Version(floor.version)
    pinned = {}
    for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines():
        if not line.startswith("#"):
            (pin,) = Requirement(line).specifier
            assert pin.operator == "=="
            pinned[canonicalize_name(Requirement(line).name)] = Version(pin.version)
    assert pinned == floors


def test_packages_whose_private_names_are_used_have_an_upper_bound() -> None:
    bounded = {
        Requirement(line).name for line in PROJECT["project"]["dependencies"] if "<" in str(Requirement(line).specifier)
    }
    assert bounded == {"autobahn", "Twisted"}


def test_every_import_is_declared() -> None:
    """Every import is declared, and nothing else is. pytest itself loads the file that imports it."""
    names = {"OpenSSL": "pyOpenSSL", "zope": "zope.interface", "_cffi_backend": "cffi"}
    imported = set()
    for path in (ROOT / "echod").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                imported.add(node.module.partition(".")[0])
    needed = {
        canonicalize_name(names.get(module, module))
        for module in imported - {"echod", "pytest"} - sys.stdlib_module_names
    }
    assert needed == {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}


# The contents of wheel and sdist.


def test_the_wheel_holds_the_package_and_the_plugin_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    information = {name for name in names if name.startswith(f"echod-{__version__}.dist-info/")}
    native = names & {"echod/lane/native/_native.abi3.so"}
    # PEP 561 requires py.typed for the classifier `Typing :: Typed`.
    assert "echod/py.typed" in names
    assert names - information - native == files_of("echod") | {PLUGIN}
    assert len(native) == int(NATIVE)
    assert f"echod-{__version__}.dist-info/licenses/LICENSE" in information


def test_the_sdist_holds_all_that_building_and_testing_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of("echod") | files_of("tests") | {PLUGIN} <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "hatch_build.py"} <= names
    assert {"CONTRIBUTING.md", "SECURITY.md", ".editorconfig"} <= names
    assert not names & {*LITTER, "twisted/__init__.py", "twisted/plugins/__init__.py"}
    assert not [name for name in names if "node_modules" in name or name.endswith((".pyc", ".so", ".cache"))]


def files_of(folder: str) -> set[str]:
    """Return the names of the files below a folder of this checkout, except those that running or building creates."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {
        str(path) for path in paths if not any(fnmatch(part, pattern) for part in path.parts for pattern in NOT_SHIPPED)
    }


LINKS = re.compile(r"\]\(([^)]+)\)")


def test_the_wheel_has_no_link_to_a_file_that_it_does_not_hold(wheel: Path) -> None:
    """A package index shows the README without the checkout."""
    metadata = zipfile.ZipFile(wheel).read(f"echod-{__version__}.dist-info/METADATA").decode()
    assert "is a WebSocket echo daemon" in metadata
    assert all(link.startswith("https://") for link in LINKS.findall(metadata))


def test_with_a_repository_each_link_leads_there() -> None:
    specification = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    (hook,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"].values()
    metadata: dict[str, Any] = {}
    module.ReadmeHook(str(ROOT), {**hook, "repository": "https://example.com/echod/"}).update(metadata)
    links = LINKS.findall(metadata["readme"]["text"])
    assert all(link.startswith("https://") for link in links)
    assert "https://example.com/echod#the-console" in links
    for path in ("blob/HEAD/docs/operating.md#limits", "raw/HEAD/docs/console.png", "blob/HEAD/LICENSE"):
        assert f"https://example.com/echod/{path}" in links
    assert metadata["urls"]["Changelog"] == "https://example.com/echod/blob/HEAD/CHANGELOG.md"


def test_another_build_elsewhere_gives_the_same_octets(checkout: Path, dist: Path, tmp_path: Path) -> None:
    other = tmp_path / "of another name" / "checkout"
    # With other timestamps and other permissions.
    shutil.copytree(checkout, other, copy_function=shutil.copyfile)
    for path in other.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    build(other, tmp_path / "dist")
    assert {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()} == {
        path.name: path.read_bytes() for path in dist.iterdir()
    }


def test_a_package_index_would_accept_both(wheel: Path, sdist: Path) -> None:
    done = run(tool("twine"), "check", "--strict", str(wheel), str(sdist))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    NATIVE == "0", reason="a wheel without the express lane fits every platform: apt-get install gcc python3-dev"
)
def test_the_wheel_can_be_for_any_linux_with_the_c_library_of_2012(wheel: Path, tmp_path: Path) -> None:
    """The wheel works with glibc 2.17 or newer, whatever it was built against. Repairing it twice gives the same
    bytes."""
    names = set()
    for folder in (tmp_path / "1", tmp_path / "2"):
        done = run(
            *[
                tool("auditwheel"),
                "repair",
                "--plat",
                f"manylinux_2_17_{platform.machine()}",
                "--wheel-dir",
                str(folder),
                str(wheel),
            ],
            env={
                **os.environ,
                "PATH": f"{Path(tool('patchelf')).parent}{os.pathsep}{os.environ['PATH']}",
                "SOURCE_DATE_EPOCH": "1700000000",
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (repaired,) = folder.iterdir()
        names.add((repaired.name, repaired.read_bytes()))
    ((name, _),) = names
    assert f"manylinux_2_17_{platform.machine()}" in name


def tool(name: str) -> str:
    """Return the path of a program that belongs to the tests' environment."""
    path = script(name)
    if not Path(path).exists():
        give_up(f"no {name}: pip install {name}")
    return path


# Where Twisted finds the plugin.


class Environment:
    """A virtual environment with echod's dependencies and without echod."""

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=True, symlinks=True)
        self.path = path
        self.bin = path / "bin"
        self.site = next(path.glob("lib/python*/site-packages"))
        for needed in closure(["echod", *BUILD_REQUIREMENTS]):
            if needed.name != "echod":
                self._copy(needed)
        # An import that works because of the tests' own environment would prove nothing. The express lane is compiled
        # only once: for the wheel that is made from the sdist.
        self._variables = {**os.environ, "ECHOD_NATIVE": "0"}
        self._variables.pop("PYTHONPATH", None)

    def _copy(self, needed: Distribution) -> None:
        outer = Path(str(needed.locate_file(""))).resolve()
        for file in needed.files or ():
            source = Path(str(needed.locate_file(file))).resolve()
            if source.is_relative_to(outer):
                target = self.site / source.relative_to(outer)
            elif source.name in ("twistd", "twist"):
                target = self.bin / source.name
            else:
                continue
            if source.exists() and source.suffix != ".pyc":
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
                if target.parent == self.bin:
                    target.write_text(re.sub(r"\A#!.*", f"#!{self.bin / 'python'}", target.read_text()))

    def pip(self, *arguments: str) -> None:
        """Run pip, which has to find everything in this environment."""
        command = [str(self.bin / "python"), "-m", "pip", "--disable-pip-version-check", *arguments]
        done = run(*command, env=self._variables, deadline=DEADLINE)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, command: Sequence[str], folder: Path, **variables: str) -> str:
        """Run a program of this environment in `folder`, and return its output."""
        done = run(
            str(self.bin / command[0]),
            *command[1:],
            cwd=folder,
            env={**self._variables, **variables},
            deadline=DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def files(self) -> set[str]:
        """Return all files except those that Python and Twisted create at run time."""
        names = (str(path.relative_to(self.path)) for path in self.path.rglob("*") if not path.is_dir())
        return {name for name in names if "__pycache__" not in name and not name.endswith("dropin.cache")}


def closure(names: Sequence[str]) -> list[Distribution]:
    """Return the installed distributions with these names, and all that they need at run time."""
    found: dict[str, Distribution] = {}
    wanted = [Requirement(name) for name in names]
    while wanted:
        requirement = wanted.pop()
        key = f"{canonicalize_name(requirement.name)}[{','.join(sorted(requirement.extras))}]"
        if key not in found:
            found[key] = distribution(requirement.name)
            for line in found[key].requires or ():
                needed = Requirement(line)
                extras = ["", *requirement.extras]
                if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                    wanted.append(needed)
    return list(found.values())


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path / "venv")
    yield environment
    # Three of these environments take 200 MB.
    shutil.rmtree(environment.path)


def assert_found(environment: Environment, folder: Path) -> None:
    """Assert that both programs of Twisted know echod in a folder without echod's files, that the command echod runs
    there, and that nothing is left in the folder."""
    folder.mkdir()
    assert LISTED.search(environment.run(["twistd", "--help"], folder))
    assert LISTED.search(environment.run(["twist", "--help"], folder))
    assert "--max-message-size SIZE" in environment.run(["twistd", "echod", "--help"], folder)
    assert environment.run(["twistd", "echod", "--version"], folder) == f"echod {__version__}\n"
    assert environment.run(["echod", "--version"], folder) == f"echod {__version__}\n"
    assert environment.run(["echod", "serve", "--port", "tcp:0", "--validate"], folder).endswith(" are valid\n")
    assert not list(folder.iterdir())


def assert_gone(environment: Environment, folder: Path, files_before: set[str]) -> None:
    """Assert that nothing of echod is left after it is uninstalled."""
    environment.pip("uninstall", "--yes", "echod")
    assert environment.files() == files_before
    assert not [path for path in environment.path.rglob("*echod*") if path.name != "dropin.cache"]
    assert "echod" not in environment.run(["twistd", "--help"], folder)
    assert "echod" not in environment.run(["twist", "--help"], folder)
    # Twisted's cache of plugins.
    assert b"echod" not in (environment.site / "twisted/plugins/dropin.cache").read_bytes()


@pytest.fixture
def sources(wheel: Path, sdist: Path, checkout: Path) -> dict[str, list[str]]:
    """Return what pip is told to install in each case."""
    return {"wheel": [str(wheel)], "sdist": [str(sdist)], "editable": ["--editable", str(checkout)]}


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_installed(kind: str, sources: dict[str, list[str]], environment: Environment, tmp_path: Path) -> None:
    before = environment.files()
    environment.pip("install", "--no-index", "--no-build-isolation", *sources[kind])
    assert_found(environment, tmp_path / "empty")
    if kind == "wheel":
        environment.run(["python", "-c", f"import echod.lane.native; echod.lane.native.load('{NATIVE}')"], tmp_path)
    assert_gone(environment, tmp_path / "empty", before)


# The README's lines for uv, pipx and pip.


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a wheel of all that echod, its build and the README's test need, made of what is installed
    here."""
    path: Path = tmp_path_factory.mktemp("index")
    for found in closure(["echod", *BUILD_REQUIREMENTS, "pytest", "websockets"]):
        if found.name != "echod":
            repack(found, path)
    return path


def repack(found: Distribution, folder: Path) -> None:
    """Make a wheel of an installed distribution."""
    site = Path(str(found.locate_file(""))).resolve()
    # A wheel may be for Python 2, too, and says so first.
    *_, tag = re.findall(r"^Tag: (\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    name = canonicalize_name(found.name).replace("-", "_")
    with zipfile.ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as wheel:
        for file in found.files or ():
            source = Path(str(found.locate_file(file))).resolve()
            # Programs are made anew from the entry points.
            if source.is_relative_to(site) and source.exists():
                wheel.write(source, str(file))


@pytest.fixture
def user(index: Path, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user of uv, pipx and pip who finds packages in the index alone."""
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "ECHOD_NATIVE": "0",
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(index),
        "UV_PYTHON": sys.executable,
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PIPX_DEFAULT_BACKEND": "uv",
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
    }


@pytest.mark.parametrize("place", ["checkout", "wheel"])
@pytest.mark.parametrize("name", ["uv", "pipx"])
def test_the_lines_for_uv_and_pipx_work(
    name: str, place: str, checkout: Path, wheel: Path, user: dict[str, str], tmp_path: Path
) -> None:
    """The README says that the path of a wheel can be in place of the dot."""

    def output(line: str) -> str:
        words = [str(wheel) if word == "." and place == "wheel" else word for word in line.split()]
        done = run(*words, cwd=checkout if place == "checkout" else tmp_path, env=user, deadline=DEADLINE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    install, serve = Readme().tools_of_python[name]
    for line in (install, serve):
        assert " . " in f"{line} "
        tool(line.split()[0])
    output(install)
    assert output("echod --version") == f"echod {__version__}\n"
    assert output(f"{serve} --port tcp:0 --validate").endswith(" are valid\n")


@pytest.mark.parametrize("name", ["uvx", "python3"])
def test_the_lines_for_the_fixtures_work(name: str, checkout: Path, user: dict[str, str]) -> None:
    readme = Readme()
    (line,) = [line for line in readme.others if line.startswith(f"{name} ")]
    if name == "uvx":
        tool(name)
    test = checkout / line.split()[-1]
    test.write_text(readme.program)
    done = run("sh", "-c", line, cwd=checkout, env=user, deadline=DEADLINE)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    test.unlink()
    shutil.rmtree(checkout / "venv", ignore_errors=True)


def test_from_a_checkout(checkout: Path, environment: Environment) -> None:
    # Twisted finds plugins only on sys.path. Python puts the current folder there for `-m`, and only for that.
    for command, variables in (
        (["python", "-m", "twisted"], {}),
        (["twistd"], {"PYTHONPATH": "."}),
        (["twist"], {"PYTHONPATH": "."}),
    ):
        assert LISTED.search(environment.run([*command, "--help"], checkout, **variables))
        assert environment.run([*command, "echod", "--version"], checkout, **variables) == f"echod {__version__}\n"
