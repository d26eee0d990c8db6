"""Search the settings of a recipe on a folder of videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpreel.training.recipes import configure
from sharpreel.training.run import ClipFolders, LoadingCallbacks, load_training_clips
from sharpreel.training.setup import validate_device
from sharpreel.training.tune.results import SearchResult
from sharpreel.training.tune.search import SearchOptions, UpdateCallback, tune
from sharpreel.training.tune.space import Space


def tune_from_folder(
    recipe: str,
    space: Path,
    folders: ClipFolders,
    out: Path,
    trials: int,
    *,
    scale: int | None = None,
    settings: Mapping[str, Any] | None = None,
    options: SearchOptions | None = None,
    callbacks: LoadingCallbacks | None = None,
    on_update: UpdateCallback | None = None,
) -> SearchResult:
    """Find the best settings of a recipe for a folder of videos; see `search.tune`.

    Args:
        space: A JSON or TOML file; see `Space`.
        folders: The clips to train and validate on; videos are decoded to stores in `out`.
        callbacks: Called while clips are loaded.
    """
    options = options or SearchOptions()
    validate_device(options.device)
    config = configure(recipe, settings, scale)
    searched = Space.read(space)
    clips = load_training_clips(config, folders, out, callbacks)
    return tune(
        recipe,
        searched,
        clips.train,
        clips.val,
        out,
        trials,
        scale=scale,
        settings=settings,
        options=options,
        facts=clips.facts,
        on_update=on_update,
    )
