"""Tables in README.md and docs/ that scripts write: the text between two markers.

<!-- models:start -->
| a table |
<!-- models:end -->
"""

from __future__ import annotations

from pathlib import Path


def replace_block(page: Path, name: str, text: str) -> None:
    """Write `text` between the markers `name`:start and `name`:end of a page.

    Raises:
        SystemExit: The page lacks one of the markers.
    """
    first, last = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, start, rest = page.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not (start and end):
        raise SystemExit(f"{page} has no lines {first} and {last}.")
    page.write_text(f"{before}{start}\n{text}\n{end}{after}")
