"""Writes the reference pages that the program makes of itself; `--check` only says whether they are current."""

import argparse
import sys
from pathlib import Path

from cli.reference import pages

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        place = HERE / name
        if place.exists() and place.read_text() == text:
            continue
        stale.append(name)
        if not check:
            place.write_text(text)
    if check and stale:
        print(f" !     Not current: {', '.join(stale)}. Run `make docs`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
