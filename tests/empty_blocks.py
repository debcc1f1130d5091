"""A deflated message of empty blocks, each with Huffman codes of its own. It costs an inflater the most work for each
byte.

Knows RFC 1951. For each block of 35 bytes an inflater builds the tables of two codes, of 286 and of 30 symbols.
"""

from __future__ import annotations

from itertools import groupby

_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
"""The lengths of the code of code lengths (section 3.2.7)."""

_LENGTHS = [8] * 226 + [9] * 60 + [4] * 2 + [5] * 28
"""The lengths of the codes for 286 literals and lengths, and for 30 distances; both codes are complete."""

_KINDS = {16: 1, 8: 3, 9: 3, 4: 3, 5: 3}
"""The code lengths of the symbols in `_LENGTHS`, and of the symbol that repeats a length (16)."""


def _number(value: int, width: int) -> str:
    """Return the bits of a number, the lowest first."""
    return f"{value:0{width}b}"[::-1]


def _codes(lengths: dict[int, int]) -> dict[int, str]:
    """Return the bits of each symbol (section 3.2.2), the highest first."""
    codes, code = {}, 0
    for width in range(1, 16):
        for symbol in sorted(symbol for symbol, length in lengths.items() if length == width):
            codes[symbol] = f"{code:0{width}b}"
            code += 1
        code <<= 1
    return codes


def _block() -> str:
    """Return the bits of one block that is not the last one."""
    kinds = _codes(_KINDS)
    bits = _number(0, 1) + _number(2, 2) + _number(29, 5) + _number(29, 5) + _number(len(_ORDER) - 5, 4)
    bits += "".join(_number(_KINDS.get(symbol, 0), 3) for symbol in _ORDER[:-1])
    for length, same in groupby(_LENGTHS):
        repeats, single = divmod(len(list(same)) - 1, 6)
        bits += kinds[length] * (1 + single) + (kinds[16] + _number(3, 2)) * repeats
    return bits + _codes(dict(enumerate(_LENGTHS[:286])))[256]


def empty_blocks(size: int) -> bytes:
    """Return the bytes of a message of about `size` bytes."""
    bits = _block() * 8
    unit = int(bits[::-1], 2).to_bytes(len(bits) // 8, "little")
    return unit * (size // len(unit)) + b"\0"  # three bits begin the empty stored block whose tail a sender omits
