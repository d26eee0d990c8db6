"""Report wordings that this project replaced by plain technical English.

    python .ci/words.py [FOLDER]

Scans prose, code and pages below FOLDER (the repository by default), names of functions included:
an underscore counts as a space. Prints one line for each finding and exits with 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FILES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**/*.md",
    "src/**/*.py",
    "src/**/*.html",
    "src/**/*.js",
    "tests/**/*.py",
    "examples/**/*.py",
    "benchmarks/**/*.py",
)

# Regular expression -> what to write instead. A space matches any white space or an underscore.
WORDS = {
    "anew": "'again' or 'from scratch'",
    "(go|goes|going|gone|went) on": "'resume' or 'continue'",
    "reckon(s|ed|ing)?": "'estimate' or 'compute'",
    "twins?": "'low-resolution version' or 'LR pair'",
    "so many": "'N' or 'at most N'",
    "mend(s|ed|ing)?": "'fix'",
    "told|tells": "'report', 'log' or 'state'",
    "hears": "'receives' or 'is notified'",
    "the truth": "'the ground truth' or 'the reference'",
    "films?(?! grain)": "'video'",
    "porch|side door": "'front end' or 'alternative input'",
    "the house": "'the package'",
    "abreast": "'batched' or 'in parallel'",
    "wish(es|ed)?": "'request' or 'requested action'",
    "ma(de|ke|kes|king) up(?! of| for)": "'hallucinate' or 'invent'",
    "(gives|gave|give) way": "'is dropped' or 'is evicted'",
    "(take|takes|taken|took) home": "'download'",
    "trainings": "'training runs'",
    "by halves": "'partially' or 'incomplete'",
    "in good order": "'cleanly'",
    "heed(s|ed)?": "'respect', 'apply' or 'handle'",
    "as often as needed": "'repeatable'",
}

# Real-world titles, quotations, and the test of this script.
EXCEPTIONS: dict[str, set[str]] = {
    "tests/test_words.py": set(WORDS),
}


def compiled(phrase: str) -> re.Pattern[str]:
    """A phrase as whole words, in any case."""
    spaced = phrase.replace(" ", r"[\s_]+")
    return re.compile(rf"(?<![A-Za-z])(?:{spaced})(?![A-Za-z])", re.IGNORECASE)


def findings(text: str, allowed: set[str]) -> Iterator[tuple[int, str, str]]:
    """(line number, what is written, what to write instead), in the order of the text."""
    found = [
        (match.start(), match[0], instead)
        for phrase, instead in WORDS.items()
        if phrase not in allowed
        for match in compiled(phrase).finditer(text)
    ]
    for start, written, instead in sorted(found):
        yield text.count("\n", 0, start) + 1, " ".join(written.split()), instead


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    paths = sorted({path for pattern in FILES for path in root.glob(pattern)})
    count = 0
    for path in paths:
        name = path.relative_to(root).as_posix()
        for line, written, instead in findings(
            path.read_text("utf-8"), EXCEPTIONS.get(name, set())
        ):
            print(f"{name}:{line}: '{written}': write {instead}")
            count += 1
    if count:
        print(
            f"{count} wordings to replace; exceptions are listed in .ci/words.py", file=sys.stderr
        )
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
