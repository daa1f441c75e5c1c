"""Functions from standards: the CRC-32 of IEEE 802.3 and the S-box of AES (FIPS 197)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.columns import Column
from tapeout.circuit.functions.function import Function
from tapeout.circuit.words import parse_interface

CRC_POLYNOMIAL = 0xEDB88320
"""0x04C11DB7 with its bits reversed: the least significant bit of a byte is sent first."""


def _crc_table() -> NDArray[np.uint64]:
    table = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        table = table >> np.uint64(1) ^ (table & np.uint64(1)) * np.uint64(CRC_POLYNOMIAL)
    return table


def crc32_step() -> Function:
    """The CRC register after one more byte; it starts and ends inverted, outside of this function."""
    table = _crc_table()

    def columns(crc: Column, byte: Column) -> Column:
        return table[(crc ^ byte) & np.uint64(255)] ^ crc >> np.uint64(8)

    return Function(
        "crc32_step", parse_interface("crc:32 byte:8 -> crc.next:32"), columns,
        "crc_next = crc ^ byte;"
        f"for (int i = 0; i < 8; i++) crc_next = crc_next >> 1 ^ (crc_next & 1 ? {CRC_POLYNOMIAL:#x} : 0);",
    )  # fmt: skip


def _times(a: int, b: int) -> int:
    """The product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, section 4.2)."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a = a << 1 ^ 0x11B * (a >> 7)
        b >>= 1
    return product


def _sbox() -> NDArray[np.uint64]:
    """The inverse in the field, then an affine map of the bits (FIPS 197, section 5.1.1)."""
    inverse = {a: b for a in range(256) for b in range(256) if _times(a, b) == 1}
    box: list[int] = []
    for byte in range(256):
        doubled = inverse.get(byte, 0) * 0x101
        box.append((doubled ^ doubled >> 4 ^ doubled >> 5 ^ doubled >> 6 ^ doubled >> 7 ^ 0x63) & 0xFF)
    return np.array(box, np.uint64)


_SBOX_C = """\
static inline unsigned times(unsigned a, unsigned b) {
    unsigned product = 0;
    for (int i = 7; i >= 0; i--) product = (product << 1 ^ (product & 0x80 ? 0x11b : 0) ^ (b >> i & 1 ? a : 0)) & 0x1ff;
    return product & 0xff;
}
"""


def aes_sbox() -> Function:
    """The byte substitution of AES."""
    box = _sbox()

    def columns(byte: Column) -> Column:
        return box[byte]

    return Function(
        "aes_sbox", parse_interface("byte:8 -> substituted:8"), columns,
        """\
unsigned inverse = 1, square = (unsigned)byte;
for (int i = 1; i < 8; i++) square = times(square, square), inverse = times(inverse, square);  /* byte ** 254 */
for (unsigned i = 0; i < 8; i++) {
    unsigned bit = 0x63u >> i & 1;
    for (unsigned k = 0; k < 5; k++) bit ^= inverse >> (k ? (i + 3 + k) % 8 : i) & 1;
    substituted |= (uint64_t)bit << i;
}""", _SBOX_C,
    )  # fmt: skip
