"""How often the encoding of real files, and of their beginnings, is found; beside other detectors.

  python benchmarks/encoding_detection.py --data DIR [--json FILE] [--wrong]

DIR holds `MANIFEST.json` and the files that it names. A detector is right if its answer decodes
with the true encoding's table or an extension of it (Big5 and its vendors' extensions; GB 2312,
GBK and GB 18030). Speed is over whole files, best of three.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

CUTS = (20, 50, 100, 400, 2000, None)
FAMILIES = {
    "big5": {"big5", "big5-uao", "big5-hkscs", "big5hkscs", "cp950"},
    "gb18030": {"gb18030", "gbk", "gb2312", "cp936"},
    "utf-8": {"utf-8", "utf-8-sig", "utf_8", "utf_8_sig"},
    "shift_jis": {"shift_jis", "shift-jis", "cp932", "windows-31j"},
    "euc-jp": {"euc-jp", "euc_jp", "eucjp", "euc_jis_2004", "euc_jisx0213"},
}


def family(name: str | None) -> str:
    """Returns the name that stands for an encoding and its extensions."""
    name = (name or "none").lower()
    return next((key for key, names in FAMILIES.items() if name in names), name)


def truth(entry: dict[str, Any]) -> str:
    """Returns the family that the manifest names."""
    return family(entry["true_encoding"].split(" ")[0])


def detectors() -> dict[str, Callable[[bytes], str | None]]:
    """Returns those detectors that are installed, ours first."""
    from twjax.corpus.sources import encodings

    found: dict[str, Callable[[bytes], str | None]] = {"twjax": encodings.detect}
    try:
        from resiliparse.parse.encoding import detect_encoding

        found["resiliparse"] = lambda data: detect_encoding(data)
    except ImportError:
        pass
    try:
        import charset_normalizer

        def normalizer(data: bytes) -> str | None:
            best = charset_normalizer.from_bytes(data).best()
            return best.encoding if best else None

        found["charset-normalizer"] = normalizer
    except ImportError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--wrong", action="store_true", help="print each wrong answer of ours")
    arguments = parser.parse_args()
    manifest = json.loads((arguments.data / "MANIFEST.json").read_text(encoding="utf-8"))
    entries = [e for e in manifest["raw"] if truth(e) != "ascii"]
    files = {e["file"]: (arguments.data / e["file"]).read_bytes() for e in entries}
    results: dict[str, Any] = {}
    for name, detect in detectors().items():
        right: collections.Counter[str] = collections.Counter()
        total: collections.Counter[str] = collections.Counter()
        seconds = 0.0
        for entry in entries:
            data = files[entry["file"]]
            kind = "real" if entry["real"] else "derived"
            for cut in CUTS:
                part = data[:cut]
                if part.isascii() or (cut and cut >= len(data)):
                    continue
                start = time.process_time()
                got = family(detect(part))
                if cut is None:
                    seconds += time.process_time() - start
                row = f"{kind} {truth(entry)} {cut or 'whole'}"
                total[row] += 1
                right[row] += got == truth(entry)
                if arguments.wrong and name == "twjax" and got != truth(entry):
                    print("wrong:", entry["file"], cut, got, len(part))
        size = sum(len(data) for data in files.values())
        results[name] = {
            "right": {row: [right[row], total[row]] for row in sorted(total)},
            "megabytes_per_cpu_second": round(size / 1e6 / seconds, 2),
        }
    rows = sorted({row for r in results.values() for row in r["right"]})
    print(f"{'':28}" + "".join(f"{name:>20}" for name in results))
    for row in rows:
        cells = ["{}/{}".format(*r["right"].get(row, ("-", "-"))) for r in results.values()]
        print(f"{row:28}" + "".join(f"{cell:>20}" for cell in cells))
    speeds = [f"{r['megabytes_per_cpu_second']}" for r in results.values()]
    print(f"{'MB per CPU second, whole':28}" + "".join(f"{cell:>20}" for cell in speeds))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
