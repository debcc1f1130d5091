"""The build hook: the express lane is compiled into the wheel, or the wheel goes without it.

Knows hatchling's hooks, and what to do when there is no compiler: a working daemon of pure Python, and one line that
says so. Must never know how the extension is made; that is ``echod/lane/native/build.py``, which it loads from its
file, as nothing is installed yet.

``ECHOD_NATIVE`` means here what it means at run time: ``1`` the build fails without the extension, ``0`` it isn't
built, unset it is built where it can be.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from types import ModuleType

# Debugging information, which Python's own flags ask for, is three quarters of the file and names the folder it was
# built in: with it no two builds would be the same.
SHIPPED_CFLAGS = ("-g0",)


def load_builder(root: Path) -> ModuleType:
    """``echod/lane/native/build.py`` as a module, without importing the package around it."""
    spec = importlib.util.spec_from_file_location("echod_native_build", root / "echod" / "lane" / "native" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface[Any]):
    """Compiles before a wheel is put together, and gives the wheel its platform's tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling; ``version`` is ``standard`` or ``editable``."""
        wanted = os.environ.get("ECHOD_NATIVE")
        if self.target_name != "wheel" or wanted == "0":
            return
        root = Path(self.root)
        native = root / "echod" / "lane" / "native"
        # An editable installation imports from the source tree, so that is where the extension has to be.
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
            self.app.display_warning(f"echod is built without its express lane, as the C could not be compiled: {why}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if self.folder is not None:
            build_data["force_include"][str(built)] = f"echod/lane/native/{built.name}"

    # hatchling's signature
    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Called by hatchling once the wheel is written."""
        folder = getattr(self, "folder", None)
        if folder is not None:
            folder.cleanup()
