"""Turn messages of `sharpreel` commands into messages for users of the site.

The commands name options such as `--codec` and files of the server; a browser has neither.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")


def for_users(message: str) -> str:
    """A message with the names of the API in place of options: `--pix-fmt` becomes `pix_fmt`."""
    return OPTION.sub(lambda option: option[1].replace("-", "_"), message)


def without_paths(message: str, source: Path, name: str) -> str:
    """An error for users, with `name` in place of the path `source`, and without folders."""
    return for_users(message.replace(str(source), name).replace(f"{source.parent}{os.sep}", ""))
