"""The speed gate that isn't timed: instructions of codec and pump on fixed inputs, counted by callgrind, against
recorded figures.

    python -m tests.lane.native.instructions            compare with instructions.json, and fail above its margin
    python -m tests.lane.native.instructions --record   write this compiler's figures into it

Knows measure.c's cases and how to read callgrind's total. Must never know why a figure is what it is.

The same program runs the same instructions on the same input, so that a count is the same twice on any machine. Two
things could differ: the kernel, so each is counted by name (valgrind offers the program SSSE3 and AVX2, and no
AVX-512), and the compiler, so figures are kept for each compiler by name and major version. For one that has none there
is nothing to compare with: the gate fails, and says how to record them; look at the difference to another compiler's
before committing. The C library is not in the codec's way, which calls nothing in it; of a pump's turn its system
calls' wrappers, `memcpy` and `malloc` are a part, and what the kernel does is not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from echod.lane.native import build

HERE = Path(__file__).parent
RECORD = HERE / "instructions.json"

MARGIN = 0.03
"""What a compiler's minor version may cost; a change to the code that costs more is to be seen and recorded on
purpose."""

COUNTED = ("echod_codec_echo", "echod_large_begin", "echod_large_feed")
"""The functions whose instructions are counted, with those they call."""

COUNTED_OF_PUMP = ("echod_pump_turn",)
"""Likewise in the pump's cases: callgrind would count no more from where one of the others is called."""

KERNELS = {"x86_64": ("scalar", "ssse3", "avx2"), "aarch64": ("scalar", "neon")}.get(platform.machine(), ("scalar",))

Figures: TypeAlias = dict[str, int]
"""By kernel and case."""


class GateError(Exception):
    """The gate cannot be used here. One line, for a person."""


@dataclass(frozen=True)
class Case:
    """One input."""

    name: str
    messages: int
    octets: int


def compiler_key(compiler: str) -> str:
    """Processor, compiler and its major version, e.g. ``x86_64 gcc 12``: figures hold for one of these."""
    macros = subprocess.run(
        [compiler, "-dM", "-E", "-x", "c", os.devnull], check=True, capture_output=True, text=True
    ).stdout
    defined = dict(re.findall(r"^#define (\w+) (.*)$", macros, re.MULTILINE))
    name, major = ("clang", defined["__clang_major__"]) if "__clang__" in defined else ("gcc", defined["__GNUC__"])
    return f"{platform.machine()} {name} {major}"


def compiled(compiler: str, folder: Path) -> Path:
    """The measuring program, with the flags that are shipped."""
    program = folder / "measure"
    command = [
        compiler,
        *build.CFLAGS,
        "-g",
        f"-I{build.HERE}",
        str(HERE / "measure.c"),
        *build.sources(),
        "-o",
        program,
    ]
    subprocess.run([str(word) for word in command], check=True)
    return program


def cases(program: Path) -> list[Case]:
    """As the program lists them."""
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return [Case(name, int(messages), int(octets)) for name, messages, octets in map(str.split, lines)]


def count(program: Path, kernel: str, case: Case) -> int:
    """Instructions of one run."""
    out = program.parent / f"{kernel}.{case.name}.callgrind"
    counted = COUNTED_OF_PUMP if case.name.startswith("pump-") else COUNTED
    toggles = [f"--toggle-collect={name}" for name in counted]
    command = [
        "valgrind",
        "-q",
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        *toggles,
        str(program),
        kernel,
        case.name,
    ]
    # A sanitizer that is preloaded, for a run of the tests, can't be under valgrind.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise GateError(f"{kernel} {case.name}: {done.stderr.strip()}")
    total = re.search(r"^(?:summary|totals): (\d+)$", out.read_text(), re.MULTILINE)
    if total is None or int(total[1]) == 0:
        raise GateError(
            f"{kernel} {case.name}: callgrind counted nothing; is one of {', '.join(counted)} no longer called?"
        )
    return int(total[1])


def count_all(compiler: str) -> tuple[list[Case], Figures]:
    """Every case with every kernel."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        program = compiled(compiler, Path(folder))
        all_cases = cases(program)
        runs = {
            f"{kernel} {case.name}": pool.submit(count, program, kernel, case)
            for kernel in KERNELS
            for case in all_cases
        }
        return all_cases, {name: run.result() for name, run in runs.items()}


def row(name: str, case: Case, instructions: int, recorded: int | None) -> str:
    """One line of the table."""
    each = f"{instructions / case.messages:12.1f} /message"
    octet = f"{instructions / case.octets:8.3f} /octet" if case.octets else " " * 15
    change = "" if recorded is None else f"{instructions / recorded - 1:+8.2%}"
    return f"{name:28}{instructions:10}{each}{octet}{change}"


def compare(figures: Figures, recorded: Figures) -> list[str]:
    """What is wrong, a line each."""
    if figures.keys() != recorded.keys():
        different = ", ".join(sorted(figures.keys() ^ recorded.keys()))
        return [f"the record has other cases than there are ({different}): record them with --record"]
    return [
        f"{name}: {instructions} instructions, {instructions / recorded[name] - 1:+.1%} of "
        f"{recorded[name]} (margin {MARGIN:.0%})"
        for name, instructions in figures.items()
        if instructions > recorded[name] * (1 + MARGIN)
    ]


def read_record() -> dict[str, Figures]:
    """Figures by compiler."""
    record: dict[str, Figures] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return record


def gate(compiler: str, recording: bool) -> list[str]:
    """Count, print, and compare or record; what is wrong, a line each."""
    for tool, package in ((compiler, "gcc"), ("valgrind", "valgrind")):
        if shutil.which(tool) is None:
            raise GateError(f"no {tool}; apt-get install {package}")
    key, record = compiler_key(compiler), read_record()
    if not recording and key not in record:
        known = ", ".join(record)
        raise GateError(
            f"no figures for {key} (there are: {known}); run python -m tests.lane.native.instructions "
            "--record, and compare"
        )
    all_cases, figures = count_all(compiler)
    recorded = record.get(key, {})
    print(f"{key}, instructions, per message, per octet of payload, against the record")
    for kernel in KERNELS:
        for case in all_cases:
            name = f"{kernel} {case.name}"
            print(row(name, case, figures[name], recorded.get(name)))
    if recording:
        RECORD.write_text(json.dumps({**record, key: figures}, indent=2, sort_keys=True) + "\n")
        return []
    if any(figures[name] < recorded.get(name, 0) * (1 - MARGIN) for name in figures):
        print("some figures are well below the record: --record makes the gain one that can't be lost unseen")
    return compare(figures, recorded)


def main() -> int:
    """0 if no figure is above its margin."""
    parser = argparse.ArgumentParser(description="Count the codec's instructions and compare them with the record.")
    parser.add_argument("--record", action="store_true", help="write the figures instead of comparing them")
    parser.add_argument("--compiler", default=os.environ.get("CC", "cc"), help="the compiler (CC, else cc)")
    options = parser.parse_args()
    try:
        wrong = gate(options.compiler, options.record)
    except GateError as error:
        wrong = [str(error)]
    for line in wrong:
        print(f"instructions: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
