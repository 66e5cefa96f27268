"""Pack recorded answers for the repository: `python tests/parity/packing.py CASE [--bits 18] [--most 1000] [--exact TAP ...]`.

Sampled float32 taps are rounded to a fixed step, by at most 2^-bits of their largest value: 18 bits are 4e-6 where a tap is compared at 1e-4,
20 bits are 1e-6 where it is at 1e-5. Taps held whole (some are inputs), statistics, histograms, integers and float64 stay as they are. `--most`
keeps that many samples a tap, evenly among the held ones: for the second of two cases that run the same path. LZMA that tells byte positions
apart (`lp`) packs float32 a tenth tighter than its defaults.
"""

from __future__ import annotations

import argparse
import io
import lzma
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from unittest import mock

import numpy as np

_WAYS = ((3, 0, 2), (0, 2, 2), (1, 2, 2), (0, 0, 0), (0, 3, 3))  # literal context, literal position and position bits
_DICTIONARY = 1 << 20


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """The values on a grid whose step is 2^(1 - bits) of the power of two at or under the largest finite one; others stay."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest == 0.0:
        return values
    step = 2.0 ** (np.floor(np.log2(largest)) + 1 - bits)
    return (np.round(values.astype(np.float64) / step) * step).astype(values.dtype)


def packed(held: Mapping[str, np.ndarray], bits: int | None, most: int | None, exact: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The members of an `expected.npz`, sampled taps thinned, and rounded but for those that fit one of the `exact` patterns."""
    out = dict(held)
    for name in [name.removesuffix(".index") for name in held if name.endswith(".index")]:
        index, values = out[f"{name}.index"], out[f"{name}.values"]
        if most is not None and len(index) > most:
            chosen = np.linspace(0, len(index) - 1, most).round().astype(np.int64)
            index, values = index[chosen], values[chosen]
        if bits is not None and values.dtype == np.float32 and not any(fnmatchcase(name, pattern) for pattern in exact):
            values = rounded(values, bits)
        out[f"{name}.index"], out[f"{name}.values"] = index, values
    return out


class _Tuned(zipfile.LZMACompressor):
    """zipfile's own LZMA with another model of the bytes; what it was packed with stands in the stream, so that every zip reader opens it."""

    settings = (3, 0, 2)

    def _init(self) -> bytes:
        lc, lp, pb = self.settings
        self._comp = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_filters(lc, lp, pb))
        return struct.pack("<BBHBI", 9, 4, 5, (pb * 5 + lp) * 9 + lc, _DICTIONARY)


def write(path: Path, members: Mapping[str, np.ndarray]) -> None:
    """An npz whose members are packed with LZMA, each in the best of a few ways; `np.load` reads it."""
    with mock.patch.object(zipfile, "LZMACompressor", _Tuned), zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in members.items():
            raw = io.BytesIO()
            np.lib.format.write_array(raw, np.ascontiguousarray(array), allow_pickle=False)
            _Tuned.settings = min(_WAYS, key=lambda way: _size(raw.getvalue(), *way))
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), raw.getvalue(), zipfile.ZIP_LZMA)


def _filters(lc: int, lp: int, pb: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _DICTIONARY, "lc": lc, "lp": lp, "pb": pb}]


def _size(raw: bytes, lc: int, lp: int, pb: int) -> int:
    return len(lzma.compress(raw, lzma.FORMAT_RAW, filters=_filters(lc, lp, pb)))


def main() -> None:
    """Pack the named cases in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="+", help="folders with expected.npz")
    parser.add_argument("--bits", type=int, help="round sampled float32 taps so; default: leave them")
    parser.add_argument("--most", type=int, help="keep that many samples a tap; default: all")
    parser.add_argument("--exact", nargs="+", default=[], help="patterns of taps that are not rounded")
    given = parser.parse_args()
    for case in given.cases:
        file = case / "expected.npz"
        before = file.stat().st_size
        with np.load(file, allow_pickle=False) as held:
            members = packed({name: held[name] for name in held.files}, given.bits, given.most, given.exact)
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / file.name, members)
            shutil.copyfile(Path(folder) / file.name, file)
        print(f"{case.name}: {before} -> {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
