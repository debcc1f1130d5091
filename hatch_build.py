"""The build hooks. One compiles the express lane into the wheel; without a compiler the wheel is pure Python. The other
makes the README fit for a package index.

Hatchling with this hook stays because no other backend keeps every promise: that Twisted finds the plugin in an
editable installation (not so with setuptools and meson-python), that every checkout gives the same sdist (not so with
setuptools), that an sdist needs no git (meson-python does), and that no CMake is needed (scikit-build-core does).

Knows hatchling's hooks, and that an installation without a compiler must still work and say so in one line. Must never
know how the extension is made: ``echod/lane/native/build.py`` does that, and is loaded from its file because nothing is
installed yet.

``ECHOD_NATIVE`` means the same here as at run time: with ``1`` the build fails without the extension, with ``0`` the
extension is not built, and without a value the extension is built if that is possible.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

if TYPE_CHECKING:
    from types import ModuleType

# Python's own flags ask for debugging information. It is three quarters of the file, and it names the folder of the
# build, so that no two builds would be the same.
SHIPPED_CFLAGS = ("-g0",)


def load_builder(root: Path) -> ModuleType:
    """Load ``echod/lane/native/build.py`` as a module, without importing the package around it."""
    spec = importlib.util.spec_from_file_location("echod_native_build", root / "echod" / "lane" / "native" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface[Any]):
    """Compiles the extension before a wheel is put together, and gives the wheel its tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. Hatchling calls this before the build; ``version`` is ``standard`` or ``editable``."""
        wanted = os.environ.get("ECHOD_NATIVE")
        if self.target_name != "wheel" or wanted == "0":
            return
        root = Path(self.root)
        native = root / "echod" / "lane" / "native"
        # An editable installation imports from the source tree, so the extension has to be there.
        self.folder = None if version == "editable" else tempfile.TemporaryDirectory()
        try:
            builder = load_builder(root)
            extra = shlex.split(os.environ.get(builder.CFLAGS_VARIABLE, ""))
            if self.folder is None:
                built = builder.build(native, extra)
            else:
                built = builder.build(Path(self.folder.name), [*SHIPPED_CFLAGS, *extra])
        except Exception as error:  # no cffi, no compiler, no Python.h: distutils has a dozen names for it
            if wanted == "1":
                raise
            why = " ".join(str(error).split())
            self.app.display_warning(f"echod is built without its express lane: the C code did not compile: {why}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = self._tag(builder)
        if self.folder is not None:
            build_data["force_include"][str(built)] = f"echod/lane/native/{built.name}"

    def _tag(self, builder: ModuleType) -> str:
        """Return the wheel's tag: for this platform, and for every Python that can load the extension."""
        tag: str = self.build_config.builder.get_best_matching_tag()
        if not builder.IS_STABLE:
            return tag
        oldest = "".join(map(str, builder.OLDEST))
        return f"cp{oldest}-abi3-{tag.rpartition('-')[2]}"

    # hatchling's signature
    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the temporary folder. Hatchling calls this once the wheel is written."""
        folder = getattr(self, "folder", None)
        if folder is not None:
            folder.cleanup()


def with_absolute_links(text: str, repository: str) -> str:
    """Return Markdown in which each link to a file of the checkout, or within it, leads to `repository`.

    A package index shows the README without the other files. Without a repository only the words of a link are left.
    """

    def replace(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        if not repository:
            return words
        if target.startswith("#"):
            return f"[{words}]({repository}{target})"
        return f"{mark}[{words}]({repository}/{'raw' if mark else 'blob'}/HEAD/{target})"

    return re.sub(r"(!?)\[([^]]+)\]\((?!https?:)([^)\s]+)\)", replace, text)


class ReadmeHook(MetadataHookInterface):
    """Gives the package the README, and the addresses of the project if there are any."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both to the metadata. Hatchling calls this for every wheel and sdist."""
        repository = self.config["repository"].rstrip("/")
        text = with_absolute_links(Path(self.root, "README.md").read_text(encoding="utf-8"), repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        pages = {"Repository": "", "Documentation": "/blob/HEAD/docs/index.md", "Changelog": "/blob/HEAD/CHANGELOG.md"}
        metadata["urls"] = {name: repository + page for name, page in pages.items() if repository}
