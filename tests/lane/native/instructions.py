"""A speed gate without a clock: callgrind counts the instructions of the codec and the pump on fixed inputs, and the
counts are compared with recorded figures.

    python -m tests.lane.native.instructions            compare with instructions.json, and fail above its margin
    python -m tests.lane.native.instructions --record   write this compiler's figures to the file

Knows measure.c's cases and how to read callgrind's total. Must never know why a figure is what it is.

The same program runs the same instructions on the same input, so each run has the same count on any machine. Two
things could differ. One is the kernel, so each kernel is counted by name (valgrind offers the program SSSE3 and AVX2,
but no AVX-512). The other is the compiler, so there are figures for each compiler, by name and major version. If there
are none for a compiler, the gate fails and says how to record them. Compare them with those of another compiler before
a commit. The codec calls nothing in the C library. A turn of the pump includes the library's `memcpy`, `malloc` and
wrappers of system calls, but not the work of the operating system.
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
"""The part by which a count may rise, for instance with a minor version of the compiler. A change to the code that
costs more fails the gate, and is recorded on purpose."""

COUNTED = ("echod_codec_echo", "echod_large_begin", "echod_large_feed")
"""The functions whose instructions are counted, including the functions that they call."""

COUNTED_OF_PUMP = ("echod_pump_turn",)
"""The same for the pump's cases. A call of another counted function would end callgrind's counting."""

KERNELS = {"x86_64": ("scalar", "ssse3", "avx2"), "aarch64": ("scalar", "neon")}.get(platform.machine(), ("scalar",))

Figures: TypeAlias = dict[str, int]
"""Instructions by kernel and case."""


class GateError(Exception):
    """The gate can't be used here. The message is one line for a person."""


@dataclass(frozen=True)
class Case:
    """An input of the measuring program."""

    name: str
    messages: int
    octets: int


def compiler_key(compiler: str) -> str:
    """Return processor, compiler and its major version, such as `x86_64 gcc 12`: the key of its figures."""
    macros = subprocess.run(
        [compiler, "-dM", "-E", "-x", "c", os.devnull], check=True, capture_output=True, text=True
    ).stdout
    defined = dict(re.findall(r"^#define (\w+) (.*)$", macros, re.MULTILINE))
    name, major = ("clang", defined["__clang_major__"]) if "__clang__" in defined else ("gcc", defined["__GNUC__"])
    return f"{platform.machine()} {name} {major}"


def compiled(compiler: str, folder: Path) -> Path:
    """Compile the measuring program, with the flags of a release; return it."""
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
    """Return the cases that the program lists."""
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return [Case(name, int(messages), int(octets)) for name, messages, octets in map(str.split, lines)]


def count(program: Path, kernel: str, case: Case) -> int:
    """Return the instructions of one run."""
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
    # Tests may run with a sanitizer preloaded, which does not work under valgrind.
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
    """Count every case with every kernel; return the cases and the figures."""
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
    """Return one line of the table."""
    each = f"{instructions / case.messages:12.1f} /message"
    byte = f"{instructions / case.octets:8.3f} /byte" if case.octets else " " * 14
    change = "" if recorded is None else f"{instructions / recorded - 1:+8.2%}"
    return f"{name:28}{instructions:10}{each}{byte}{change}"


def compare(figures: Figures, recorded: Figures) -> list[str]:
    """Return a line for each figure that is too high."""
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
    """Return the recorded figures by compiler."""
    record: dict[str, Figures] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return record


def gate(compiler: str, recording: bool) -> list[str]:
    """Count, print, and compare or record; return a line for each figure that is too high."""
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
    print(f"{key}, instructions, per message, per byte of payload, against the record")
    for kernel in KERNELS:
        for case in all_cases:
            name = f"{kernel} {case.name}"
            print(row(name, case, figures[name], recorded.get(name)))
    if recording:
        RECORD.write_text(json.dumps({**record, key: figures}, indent=2, sort_keys=True) + "\n")
        return []
    if any(figures[name] < recorded.get(name, 0) * (1 - MARGIN) for name in figures):
        print("some figures are well below the record: use --record to keep the gain")
    return compare(figures, recorded)


def main() -> int:
    """Return 0 if no figure is above its margin, otherwise 1."""
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
