"""Write the means of a report's scores as flat numbers, for `dvc metrics show` and `diff`.

python summary.py report/scores.json metrics.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    scores = json.loads(source.read_text())
    metrics = {
        model: {name: value for name, value in means.items() if isinstance(value, float)}
        for model, means in scores["means"].items()
    }
    target.write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    main()
