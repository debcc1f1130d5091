"""Fixtures: the codec with each kernel of the native module.

A missing native module is a failure and not a skip: otherwise a failed build would silently disable these tests. With
`ECHOD_NATIVE=0` the express lane is off on purpose, and its tests are off, too.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from echod.lane.native import Native
from tests.lane.native.codec import Codec
from tests.tools import give_up

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNELS = {"x86_64": ["scalar", "ssse3", "avx2"], "aarch64": ["scalar", "neon"]}.get(platform.machine(), ["scalar"])
"""The kernels that a build for this machine contains, from the plainest to the best."""


def needs_processor(native: Native, kernel: str) -> None:
    """Skip a test of a kernel that this processor can't run."""
    if not native.lib.echod_codec_isa_usable(kernel.encode()):
        give_up(f"this processor has no {kernel}; run the tests on one that has")


@pytest.fixture(params=KERNELS)
def codec(native: Native, request: pytest.FixtureRequest) -> Iterator[Codec]:
    """The codec with one of its kernels."""
    needs_processor(native, request.param)
    with Codec(native, request.param) as codec:
        yield codec


@pytest.fixture
def codecs(native: Native) -> list[Codec]:
    """The codec with each kernel that this processor has, for one test: pytest-twisted cannot run a hypothesis test
    twice."""
    return [Codec(native, kernel) for kernel in KERNELS if native.lib.echod_codec_isa_usable(kernel.encode())]
