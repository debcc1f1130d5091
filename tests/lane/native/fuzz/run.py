"""Fuzzes the native code with libFuzzer, or replays inputs without it.

    python -m tests.lane.native.fuzz.run --seconds 60 [--seed N] [--runs N] [--corpus FOLDER] [TARGET ...]

The seed decides what a run tries, so a run can be repeated. Without `--seed` a new seed is drawn and printed.

Knows the targets (fuzz_*.c in this folder), how to compile them under AddressSanitizer and UndefinedBehaviorSanitizer,
and the first inputs. Must never know which results are right: that is in the targets.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from echod.lane.native import build
from tests.empty_blocks import empty_blocks
from tests.lane.native.oracle import BINARY, TEXT, client_frame

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
CFLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")

INSIDE = {
    "deflate": ("deflate",),
    "door": ("door", "lease", "verdicts"),
    "pump": ("buffer_pool", "lease", "send", "partial", "mixed_read", "pump"),
    "verdicts": ("verdicts",),
}
"""The C files that a target includes."""

LIBRARIES = {"deflate": ("-l:libz.so.1",), "turn": ("-l:libz.so.1",)}
"""The libraries of a target: zlib by its file name, because its development files may not be installed."""

IN_32_BITS = ("-m32", "-g", "-O1")
"""Options for a program on which a size has 32 bits. The sanitizers' libraries for it are seldom installed."""

LARGEST_INPUT = 6000
"""Bytes of the largest input: more than a piece of 4,096, so that a text may be invalid in its second piece."""

COSTLY = {"deflate": 25, "door": 12, "large": 4, "pump": 25, "turn": 50}
"""How many times as long a run of these targets takes as one of the others. Each gets that many times fewer runs."""

SAME_ADDRESSES = 0x0040000
"""From linux/personality.h: the kernel puts a program's memory at the same addresses each time."""

KEYS = (bytes(4), b"\x37\xfa\x21\x3d")
"""With a key of zeros the fuzzer sees the plain text; with the other one it sees what a client sends."""

TEXTS = tuple(
    text.encode() for text in ("", "Hello", "é€😀" * 30, "a" * 63 + "é", "a" * 62 + "€" + "b" * 70, "ж" * 2100)
)
FAULTS = tuple(
    map(
        bytes.fromhex,
        ("80", "C0AF", "C1BF", "E09FBF", "EDA080", "F08FBFBF", "F4908080", "F5808080", "FF", "E282", "F09F98"),
    )
)
PAYLOADS = (
    *TEXTS,
    *FAULTS,
    *(b"a" * 61 + fault + b"b" * 66 for fault in FAULTS),
    "é".encode() * 2060 + b"\xff",
    bytes(range(256)),
)


def seeds(target: str) -> list[bytes]:
    """Return the first inputs: each kind of frame and of text once."""
    if target == "codec":
        frames = [
            client_frame(payload, opcode, key) for key in KEYS for payload in PAYLOADS for opcode in (TEXT, BINARY)
        ]
        odd = [
            b"\x89\x80" + KEYS[1],
            b"\x01\x81" + KEYS[1] + b"a",
            b"\x81\x01a",
            b"\x82\xff" + b"\x7f" * 8,
            b"\x82\xfe\x00\x05",
        ]
        pairs = [first + second for first, second in zip(frames, frames[7:], strict=False)]
        return [
            bytes([place % 9]) + stream
            for place, stream in enumerate([*frames, *odd, *pairs, b"".join(frames[:12]) + odd[0]])
        ]
    if target == "large":
        heads = [
            bytes([way, *key, len(sizes), *sizes])
            for way in range(8)
            for key in KEYS
            for sizes in ((), (1, 2, 3, 4), (64, 65, 7))
        ]
        return [heads[place % len(heads)] + payload for place, payload in enumerate(PAYLOADS * 2)]
    makers = {
        "deflate": deflate_seeds,
        "door": door_seeds,
        "pump": pump_seeds,
        "turn": turn_seeds,
        "verdicts": verdict_seeds,
    }
    if target in makers:
        return makers[target]()
    return [bytes([cut]) + key + payload for key in KEYS for cut in (0, 63, 64, 130) for payload in PAYLOADS]


def pump_seeds() -> list[bytes]:
    """Return steps (fuzz_pump.c says what the bytes mean): each size is sent whole, in pieces, and by a client that
    does not receive."""
    send, turn, receive, recall, tight, wide, end, out, ask = 0xE1, 0x82, 0xE3, 0x04, 0x24, 0x44, 0x64, 0x84, 0xE4
    ping, pong = ([0, 0x38, 1, 0x5A, first] for first in (0x89, 0x8A))
    found = []
    for kind in (0, 1, 6, 0x38):
        for size in range(13):
            frame = [0, kind, size, 0x5A, *([7, 0xFF] if kind == 6 else [0x89] if kind == 0x38 else [])]
            first, middle, last = ([0, kind | more, *frame[2:]] for more in (8, 0x10, 0x18))
            found += [
                [*frame, send, turn, receive] * 3,
                [*frame, 0x61, turn, 0x81, turn, 0xA1, turn, receive, recall],
                [*frame, *frame, send, turn, tight, *frame, send, turn, receive, turn, wide, *frame, send, turn],
                [*frame, 0xA1, turn, out, *frame, send, turn, receive, turn],
                [*frame, *frame, 0xA1, turn, out, recall],
                # The same in three frames with a whole frame behind them; then without memory; then many times.
                [*first, *middle, *last, *frame, send, turn],
                [*first, *last, 0xA1, turn, out, 0xA1, turn, recall],
                [*first, *last, send, turn] * 8,
                [*frame, send, turn] * 10 + [out, *frame, send, turn],
                [*frame, send, turn] * 10 + [end, turn, receive, turn],
                # All leases are ready, one is served, and before the next turn two of the others are recalled.
                [octet for lease in range(4) for octet in (lease << 3, *frame[1:], send | lease << 3)]
                + [0x02, recall | 1 << 3, recall | 2 << 3, turn],
                # All leases are ready, one is served, and before the next turn the owner's pings take the room of
                # another.
                [octet for lease in range(4) for octet in (lease << 3, *frame[1:], send | lease << 3)]
                + [0x02, *[ask | 1 << 3] * 64, turn],
                # Pings and pongs between frames, whole and in pieces, and pings of the owner's.
                [*frame, *ping, *pong, *frame, send, turn, receive, turn],
                [*first, *ping, *middle, *pong, *ping, *last, *ping, *(0x21, turn) * 60, 0x61, turn, send, turn],
                [*first, *ping, *middle, *ping, 0x81, turn, 0x21, turn, recall],
                [ask, *frame, 0x81, turn, ask, send, turn, ask, receive, turn, ask, recall],
                [*frame, *frame, send, turn, ask, ask, tight, ask, receive, turn],
                [*frame, send, turn] * 10 + [ask, *ping, send, turn, receive, ask, turn, receive, turn],
                [*frame, send, turn] * 10 + [out, ask],
            ]
            for fails in (0x84, 0xA4, 0xC4):  # the next allocation fails, or one of the two after it
                found += [
                    [*frame, *ping, fails, send, turn],
                    [*frame, 0x81, turn, fails, send, turn, recall],
                    [*frame, 0x81, turn, fails, recall],
                    [*first, *middle, 0x81, fails, turn, send, fails, turn, recall],
                    [*first, *last, *first, *last, 0xA1, fails, turn, send, fails, turn, receive, turn],
                ]
    # Without a limit, a header claims 2 to the power of `bits` bytes, or some fewer.
    for bits in range(16, 64):
        found += [[0, kind, 0xC0 | bits, 0x5A, 0x61, turn, send, turn, recall] for kind in (0, 1, 0x40, 0x41)]
    # The frames behind such a header become its payload, and a frame of their own.
    found += [[0, kind, 0xD0, 0x5A, *[0, 1, 12, 0x5A] * 4, send, turn, receive, turn, recall] for kind in (0, 1, 0x41)]
    return [bytes([place & 0x1F | (2 if steps[2] >= 0xC0 else 0), *steps]) for place, steps in enumerate(found)]


def deflate_seeds() -> list[bytes]:
    """Return messages (fuzz_deflate.c says how they are written) that refer to earlier ones, of each level, and some
    invalid messages."""
    found = []
    for terms in (0, 1, 2, 3, 3 | 6 << 2):
        for level in (0, 1, 9):
            compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
            messages = [
                (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
                for payload in (*PAYLOADS, *TEXTS, b"a" * 60_000)
            ]
            odd = [
                b"",
                b"\x00",
                b"\x01\x00\x00\xff\xff",
                messages[2][:-1],
                messages[2] + b"\x00",
                b"\x06",
                messages[-1],
            ]
            for limit in range(6):
                octets = b"".join(
                    bytes([place & (1 if limit else 3)]) + len(it).to_bytes(2, "big") + it
                    for place, it in enumerate([*messages, *odd])
                )
                found.append(bytes([terms, limit]) + octets)
        found += [bytes([terms, 0, 0xF0]) + len(octets).to_bytes(2, "big") + octets for octets in costly()]
    return found


def costly() -> list[bytes]:
    """Return few deflated bytes that take long to inflate: blocks without content, of each kind, and some with much
    content."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    return [
        empty_blocks(5_000)[:-1],
        b"\0\0\0\xff\xff",
        b"\x02\x08\x20\x80\0",
        (zeros.compress(bytes(60_000)) + zeros.flush(zlib.Z_SYNC_FLUSH)),
    ]


def turn_seeds() -> list[bytes]:
    """Return what a client repeats (fuzz_turn.c): thousands of the smallest messages and frames, and costly ones."""
    empty = [client_frame(b"", opcode, KEYS[0]) for opcode in (TEXT, BINARY)]
    least = [client_frame(octets, 0x40 | BINARY, KEYS[0]) for octets in (b"\0", b"\x02\0", b"\x4a\0")]
    fragments = [b"\x01\x80" + KEYS[0] + b"\x80\x80" + KEYS[0], b"\x01\x80" + KEYS[0] + b"\x00\x80" + KEYS[0] * 500]
    messages = [
        client_frame(octets * times + b"\0", 0x40 | BINARY, KEYS[0])
        for octets in costly()
        for times in (1, 60_000 // len(octets))
    ]
    pings = [client_frame(b"", 9, KEYS[0]), client_frame(b"", 9, KEYS[0]) + client_frame(b"", 10, KEYS[0]) + empty[0]]
    return [bytes([terms]) + stream for terms in range(4) for stream in (*empty, *pings, *least, *fragments, *messages)]


def verdict_seeds() -> list[bytes]:
    """Heads that are remembered and looked for (fuzz_verdicts.c): of each kind of line one, with another key, cut, and
    without memory."""
    key, other = b"dGhlIHNhbXBsZSBub25jZQ==", b"/+9AZaz08acdefghijklmg=="
    fields = (
        b"",
        b"Kept: a",
        b"kept:",
        b"Cookie: a",
        b"Cookie: \x00",
        b"X: a\tb",
        b"no colon",
        b" folded: x",
        b": ",
        b"X-",
    )
    found = []
    for before, behind in ((fields[i], fields[-j]) for i in range(len(fields)) for j in range(1, 4)):
        lines = [b"GET / HTTP/1.1", b"Host: a", before, b"Sec-WebSocket-Key: " + key + b" ", behind]
        head = b"\r\n".join([*filter(None, lines), b"", b""])
        asked = head.replace(key, other).replace(b"Cookie: a", b"Cookie: else").replace(b"ept: a", b"ept:")
        steps = [
            (4, head),
            (0, head),
            (1, asked),
            (2, asked + b"frames"),
            (1, asked[:-1]),
            (1, asked.replace(b"Host: a", b"Host: b")),
            (0, asked.replace(b"Host: a", b"hOST: a")),
            (2, asked.replace(b"Host: a", b"hOST: a")),
            (0, head.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key:" + key + b"\r\n\r\n")),
            (0, head.replace(b"GET /", b"GET /" + b"x" * 980)),
            (1, head.replace(b"Host", b"Cookie: " + b"x" * 2900 + b"\r\nHost")),
            (3, b""),
            (1, asked),
            (0, asked),
            (1, head),
        ]
        found.append(b"".join(bytes([kind]) + len(octets).to_bytes(2, "big") + octets for kind, octets in steps))
    return found


def door_seeds() -> list[bytes]:
    """Steps (fuzz_door.c says what the octets mean): each kind of octets at once and later, and each end of a guest."""
    dial, say, close, reset, turn, short = 0x00, 0x10, 0x20, 0x24, 0x3C, 0x30
    ends: tuple[list[int], ...] = (
        [close],
        [0x4C],
        [reset],
        [say | 0xC],
        [0x70],
        [0x80],
        [0x2C],
        [0x48],
        [0x5C],
        [0x67, 0x6B],
        [0x6B, 0x6C],
        [0x6B, 0x6C, close],
        [0x54],
        [0x9C, say | 0xC, turn, 0x90],
        [0xA0],
        [],
        # Seen off: before and after it has said something, and with each answer.
        *(
            [*early, turn, *((0xB8,) if is_stuffed else ()), 0x88, turn, *late]
            for early in ((), (0xA4,), (0xA8,), (0xB4,), (0xAC,))
            for is_stuffed in (False, True)
            for late in ((0x4C,), (0x48,), (close,), (reset,), (0x59,), (0x5C,), (0xAC, 0x4C), (0xA4, 0xC0), ())
        ),
        # Recalled because it holds something.
        *([early, turn, 0x84, turn, 0x4C] for early in (0xA4, 0xA8, 0xB4, 0xB8)),
        # No descriptors.
        [1, 0x11, 0xE8, turn, 0x4C, turn, 0xEC, turn],
    )
    found = []
    for kind, end in ((kind, end) for kind in range(4) for end in ends):
        asks = say | kind << 2
        found += [
            [dial, asks, turn, 0x40, *end, turn],
            [dial, turn, asks, turn, say | 0xC, turn, 0x40, *end, turn],
            [0xD0 | kind << 2, short, *end, turn, close, close | 1, turn],
            [0xF1, 0xD0 | kind << 2, turn, *end, turn],
            *([dial, *early, 0xC0 | fails, asks, turn, *end, turn] for fails in range(3) for early in ([], [turn])),
        ]
    return [bytes([9, *steps]) for steps in found]


def write_seeds(target: str, folder: Path) -> list[Path]:
    """Write each seed to a file of its own; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"seed-{place:03}" for place in range(len(seeds(target)))]
    for file, octets in zip(files, seeds(target), strict=True):
        file.write_bytes(octets)
    return files


def compiled(target: str, folder: Path, compiler: str, *flags: str | Path) -> Path:
    """Compile a target; return its program."""
    program = folder / f"fuzz_{target}"
    sources = [source for source in build.sources() if source.stem not in INSIDE.get(target, ())]
    command = [
        compiler,
        *CFLAGS,
        *flags,
        f"-I{build.HERE}",
        str(HERE / f"fuzz_{target}.c"),
        *sources,
        *LIBRARIES.get(target, ()),
        "-o",
        program,
    ]
    subprocess.run([str(word) for word in command], check=True)
    return program


def replayer(target: str, folder: Path, compiler: str = "cc", *flags: str) -> Path:
    """Compile a program that runs a target over files, under sanitizers unless there are other flags; return it."""
    return compiled(target, folder, compiler, *(flags or SANITIZERS), HERE / "replay.c")


def fuzz(target: str, compiler: str, limits: Sequence[str], corpus: Path) -> int:
    """Fuzz a target within libFuzzer's `limits`, and return its exit code. An input that fails is kept in `corpus`."""
    with tempfile.TemporaryDirectory() as folder:
        begin = Path(folder) / "seeds"
        # A folder would be read in an order that depends on the file system.
        named = Path(folder) / "seeds.txt"
        named.write_text(",".join(map(str, write_seeds(target, begin))))
        program = compiled(target, Path(folder), compiler, *SANITIZERS, "-fsanitize=fuzzer")
        grown = corpus / target
        grown.mkdir(parents=True, exist_ok=True)
        # No other process adds to the corpus, so it is not read again every second.
        checks = (f"-max_len={LARGEST_INPUT}", "-timeout=10", "-rss_limit_mb=1024", "-reload=0")
        report = ("-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={corpus}/{target}-")
        return subprocess.run(
            [program, *limits, *checks, *report, f"-seed_inputs=@{named}", grown],
            check=False,
            env={**os.environ, "ASAN_OPTIONS": ""},
            preexec_fn=_keep_addresses if sys.platform == "linux" else None,
        ).returncode


def _keep_addresses() -> None:
    """Ask the kernel for the same addresses each time: libFuzzer tries the operands of comparisons as input, and some
    of them are addresses. A kernel that refuses has the program run all the same."""
    ctypes.CDLL(None).personality(SAME_ADDRESSES)


def main() -> int:
    """Fuzz each target in turn; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        description="Fuzz the native code under AddressSanitizer and UndefinedBehaviorSanitizer."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=TARGETS, help=f"of {', '.join(TARGETS)}; all")
    parser.add_argument("--seconds", type=int, default=60, help="the most for each target (60)")
    parser.add_argument("--seed", type=int, help="what the random choices begin from; else a new one")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="the most for each target; a target whose runs take long gets fewer"
    )
    parser.add_argument(
        "--corpus", type=Path, help="folder to begin from, to add to, and to keep findings in; else a new one"
    )
    parser.add_argument("--compiler", default="clang", help="a compiler with libFuzzer (clang)")
    options = parser.parse_args()
    if shutil.which(options.compiler) is None:
        print(
            f"fuzz: no {options.compiler}; it takes a compiler with libFuzzer, e.g. apt-get install clang",
            file=sys.stderr,
        )
        return 2
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix="echod-fuzz-"))
    seed = options.seed or random.SystemRandom().randrange(1, 2**32)  # to libFuzzer, 0 means a new one
    found = 0
    for target in options.targets:
        limits = [f"-max_total_time={options.seconds}", f"-seed={seed}"]
        if options.runs is not None:
            limits.append(f"-runs={options.runs // COSTLY.get(target, 1)}")
        print(f"fuzz: {target} for {options.seconds} s, --seed {seed}", flush=True)
        if fuzz(target, options.compiler, limits, corpus) != 0:
            print(f"fuzz: {target} failed; the input is in {corpus}", file=sys.stderr)
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
