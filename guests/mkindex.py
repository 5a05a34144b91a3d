"""Writes index.json, from which `minihv guests` lists what is bundled: python mkindex.py IMAGES > index.json

A guest is a source with an expectation file (NAME.toml) beside it. What the list says about it stands at
the top of the source, and nowhere else:

    /* NAME: purpose, one line.
     *
     * Look at: what to see when it runs.
     */
"""

import json
import sys
from pathlib import Path

SOURCES = (".S", ".c")
IMAGES = (".elf", ".img")
LOOK_AT = "Look at: "


def header(source: Path) -> list[str]:
    """The paragraphs of the comment that opens `source`, each on one line."""
    text = source.read_text(encoding="ascii")
    comment, end, _ = text.partition("*/")
    if not comment.startswith("/*") or not end:
        raise SystemExit(f"{source}: expected a comment on top, found {text[:20]!r}")
    lines = [line.strip().removeprefix("/*").removeprefix("*").strip() for line in comment.splitlines()]
    return [" ".join(paragraph.split()) for paragraph in "\n".join(lines).strip().split("\n\n")]


def describe(source: Path, images: Path) -> dict[str, str]:
    """The index entry of the guest in `source`: file, purpose, shows."""
    name = source.stem
    purpose, *rest = header(source)
    shows = [paragraph.removeprefix(LOOK_AT) for paragraph in rest if paragraph.startswith(LOOK_AT)]
    files = [name + suffix for suffix in IMAGES if (images / (name + suffix)).exists()]
    if not purpose.startswith(f"{name}: ") or len(shows) != 1 or len(files) != 1:
        raise SystemExit(
            f"{source}: expected '{name}: purpose', one paragraph '{LOOK_AT}...' and one image; "
            f"found {purpose!r}, {len(shows)} paragraphs, images {files}"
        )
    return {"file": files[0], "purpose": purpose.removeprefix(f"{name}: "), "shows": shows[0]}


def index(sources: Path, images: Path) -> dict[str, dict[str, str]]:
    """All guests by name, in the order of their names."""
    found = [path for path in sources.iterdir() if path.suffix in SOURCES]
    return {
        path.stem: describe(path, images)
        for path in sorted(found, key=lambda path: path.stem)
        if path.with_suffix(".toml").exists()
    }


def main() -> None:
    """Print the index of the guests beside this file whose images are in the directory named."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: mkindex.py IMAGES")
    entries = index(Path(__file__).parent, Path(sys.argv[1]))
    print(json.dumps(entries, indent=1))


if __name__ == "__main__":
    main()
