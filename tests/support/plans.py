"""Plans of one call, for tests of what `make_plan` decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from tests.support.videos import make_clip


def plan_of(source: Path, output: Path | None = None, **options: Any) -> Any:
    return make_plan(source, output, UpscaleOptions(**options))


def size_of(plan: Any) -> tuple[int, int]:
    return plan.settings.width, plan.settings.height


def a_clip(folder: Path, **settings: Any) -> Path:
    return make_clip(folder / "in.mp4", **{"frames": 3, "audio": False, **settings})
