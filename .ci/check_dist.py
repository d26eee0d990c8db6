"""Check what the sdist and the wheels contain, before anybody installs or uploads them.

    python .ci/check_dist.py dist build/from-tree

The first folder holds the sdist and the wheel built from it, the second one a wheel built directly
from the source tree: both wheels must contain the same files, which are those of src/sharpreel.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "src" / "sharpreel"
FIELDS = (
    "Name Version Summary Author License-Expression License-File Requires-Python Keywords "
    "Classifier Project-URL Description-Content-Type Requires-Dist Provides-Extra"
).split()
IN_SDIST = (
    "README.md CHANGELOG.md CONTRIBUTING.md LICENSE Makefile Dockerfile pyproject.toml "
    "requirements.txt requirements-dev.txt .ci/run examples/demo.py examples/letters.png "
    "examples/photographs/coffee.png tests/conftest.py docs/cli.md"
).split()


def only(folder: Path, pattern: str) -> Path:
    """The one file that matches."""
    paths = list(folder.glob(pattern))
    if len(paths) != 1:
        raise SystemExit(f"{folder} must hold one {pattern}, found {len(paths)}.")
    return paths[0]


def content(wheel: Path) -> dict[str, bytes]:
    """Files of a wheel by name, without RECORD, whose lines are the same in another order."""
    with zipfile.ZipFile(wheel) as file:
        names = [n for n in file.namelist() if not n.endswith(("/", ".dist-info/RECORD"))]
        return {name: file.read(name) for name in names}


def source_files() -> dict[str, bytes]:
    """What the wheel must contain, by name."""
    return {
        f"sharpreel/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def metadata(files: dict[str, bytes]) -> Message:
    (name,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(files[name])


def problems(dist: Path, from_tree: Path) -> list[str]:
    """What is wrong, one sentence each; empty when all is well."""
    found = []
    wheel, direct = content(only(dist, "*.whl")), content(only(from_tree, "*.whl"))
    if wheel != direct:
        names = [n for n in sorted(wheel | direct) if wheel.get(n) != direct.get(n)]
        found.append(f"The wheel of the sdist and that of the tree differ in {names}.")
    source = source_files()
    packaged = {name: data for name, data in wheel.items() if ".dist-info/" not in name}
    found += [f"{name} is missing from the wheel." for name in sorted(source.keys() - packaged)]
    found += [f"{name} does not belong in the wheel." for name in sorted(packaged.keys() - source)]
    found += [
        f"{name} is another file in the wheel."
        for name in sorted(source.keys() & packaged)
        if source[name] != packaged[name]
    ]
    header = metadata(wheel)
    found += [f"The metadata lack {field}." for field in FIELDS if not header.get_all(field)]
    with tarfile.open(only(dist, "*.tar.gz")) as file:
        names_in_sdist = {name.partition("/")[2] for name in file.getnames()}
    found += [f"{n} is missing from the sdist." for n in IN_SDIST if n not in names_in_sdist]
    return found


def main(dist: Path, from_tree: Path) -> int:
    found = problems(dist, from_tree)
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        for path in sorted(dist.iterdir()):
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, contents as expected")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
