"""Train on a folder of videos: clips, run lock, trackers, training, and the model file.

`sharpreel train` parses its options and calls `train_from_folder`. `load_training_clips` alone
prepares the clips, for `trainer.train` or `tune.search.tune`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel.data import store as stores
from sharpreel.data.clips import allowed, find_clips, read_list, split
from sharpreel.data.store import ClipStore, is_store, open_store
from sharpreel.errors import ResumableError, UsageError, write_error
from sharpreel.system.files import FileLock
from sharpreel.training import trainer
from sharpreel.training.config import TrainConfig
from sharpreel.training.export import release_graph
from sharpreel.training.mlflow_tracker import MlflowTracker, mlflow_installed
from sharpreel.training.setup import for_epochs, make_fabric, validate_device
from sharpreel.training.trackers import (
    JsonlTracker,
    MultiTracker,
    NullTracker,
    Tracker,
    closing_with_status,
)
from sharpreel.training.trainer import ProgressCallback

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sharpreel.data.clips import Rated

ClipCallback = Callable[[str, int, int], None]  # name, clips done, of how many
NoteCallback = Callable[[str], None]


@dataclass(frozen=True)
class ClipFolders:
    """Which clips a run uses.

    Attributes:
        data: A store of `sharpreel data prepare`, or a folder of videos or image folders.
        val: The same, to validate on; None: a tenth of `data`. The clips are then split 80/10/10
            by the recipe's seed, and the last tenth is left for a test.
        names: A text file with the clips of `data` to use, one name a line.
        noncommercial: Include clips whose rights exclude commercial use.
        height: Scale clips down to this many lines; only when `data` is not a store.
    """

    data: Path
    val: Path | None = None
    names: Path | None = None
    noncommercial: bool = False
    height: int | None = None


@dataclass(frozen=True)
class TrainingClips:
    """The clips of a run, ready to train on, and facts about them for the card."""

    train: list[Any]
    val: list[Any]
    facts: dict[str, Any]


@dataclass(frozen=True)
class LoadingCallbacks:
    """Callbacks while clips are loaded.

    Attributes:
        on_prepared: Called after each clip that is decoded.
        on_degraded: Called after each clip whose low-resolution version is made.
        on_note: Called with a line of text for people.
    """

    on_prepared: ClipCallback | None = None
    on_degraded: ClipCallback | None = None
    on_note: NoteCallback | None = None

    def note(self, text: str) -> None:
        if self.on_note is not None:
            self.on_note(text)


@dataclass(frozen=True)
class TrainedModel:
    """The result of a training run.

    Attributes:
        path: The model file.
        graph: Its OpenVINO graph; None for networks without one.
        is_main: False in all but the first of several processes, which do not make the graph.
    """

    path: Path
    graph: Path | None
    is_main: bool


def train_from_folder(
    config: TrainConfig,
    folders: ClipFolders,
    run: Path,
    *,
    epochs: int | None = None,
    start_from: str | None = None,
    resume: bool = False,
    device: str = "auto",
    mlflow: bool = True,
    callbacks: LoadingCallbacks | None = None,
    on_progress: ProgressCallback | None = None,
) -> TrainedModel:
    """Train a network on a folder of videos; an interrupted run in `run` is resumed.

    Args:
        config: Of `recipes.configure`.
        folders: The clips to train and validate on.
        run: The run folder.
        epochs: Train for N epochs instead of `config.steps`.
        start_from: A checkpoint to start from (up-training).
        resume: Refuse to start a new run.
        device: "auto", "cpu" or "cuda".
        mlflow: Also log to MLflow, if it is installed.
        callbacks: Called while clips are loaded.
        on_progress: Called at each save, in the first of several processes.

    Raises:
        UsageError: The settings do not fit the clips, or the run was started with other inputs.
        ResumableError: Another process uses the run folder, or the run was interrupted.
        TrainingError: The loss is NaN or infinite.
    """
    if resume and not (run / "last.pt").is_file():
        raise UsageError(f"resume=True: no resumable training run found in {run}.")
    validate_device(device)
    with run_lock(run):
        clips = load_training_clips(config, folders, run, callbacks)
        if epochs is not None:
            config = for_epochs(config, clips.train, epochs)
        fabric = make_fabric(config.precision, device)
        is_main = fabric.global_rank == 0
        tracker = _tracker(fabric, run, clips.facts, mlflow)
        with closing_with_status(tracker):
            path = trainer.train(
                config,
                clips.train,
                clips.val,
                run,
                fabric=fabric,
                tracker=tracker,
                start_from=start_from,
                on_progress=on_progress if is_main else None,
                extra={"data": clips.facts},
            )
        graph = release_graph(path, clips.val) if is_main else None
    return TrainedModel(path, graph, is_main)


def _tracker(fabric: Fabric, run: Path, facts: dict[str, Any], mlflow: bool) -> Tracker:
    """Return the trackers of this process: only the first of several processes logs."""
    if fabric.global_rank != 0:
        return NullTracker()
    trackers: list[Tracker] = [JsonlTracker(run)]
    if mlflow and mlflow_installed():
        trackers.append(MlflowTracker(run, facts))
    return MultiTracker(*trackers)


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Create a run folder and keep other training runs out of it.

    Each process of a distributed run holds a lock of its own.

    Raises:
        ResumableError: Another training run is using the folder.
    """
    rank = os.environ.get("RANK", "0")
    lock = FileLock(run / ("lock" if rank == "0" else f"lock{rank}"))
    try:
        run.mkdir(parents=True, exist_ok=True)
        acquired = lock.acquire(wait=False)
    except OSError as e:
        raise write_error(run, e) from e
    if not acquired:
        raise ResumableError(
            f"{run}: another training run is using this folder; wait for it or stop it first."
        )
    try:
        yield
    finally:
        lock.release()


def load_training_clips(
    config: TrainConfig,
    folders: ClipFolders,
    run: Path,
    callbacks: LoadingCallbacks | None = None,
) -> TrainingClips:
    """Open or prepare the clips of a run.

    A folder of videos is decoded to a store in the run folder.

    Raises:
        UsageError: No clip may be used, or there are too few to split.
        InputError: A clip or a list of names cannot be read.
    """
    callbacks = callbacks or LoadingCallbacks()
    whole = _open_store(folders.data, run / "clips", folders, folders.names, callbacks)
    if folders.val is None:
        parts = split(whole.names, config.seed)
        train, val = whole.only(parts["train"]), whole.only(parts["val"])
        callbacks.note(
            f"{len(parts['train'])} clips to train on, {len(parts['val'])} to validate on, "
            f"{len(parts['test'])} left for a test"
        )
    else:
        train = whole
        val = _open_store(folders.val, run / "val", folders, None, callbacks)
    facts = {
        "clips": len(train.entries),
        "clips by rights": train.rights,
        "sha256": train.sha256,
        "degradation": config.degradation,
        "versions": config.versions,
    }
    if config.task == "bursts":
        train_bursts, val_bursts = ([s.frames(e) for e in s.entries] for s in (train, val))
        return TrainingClips(train_bursts, val_bursts, facts)
    pair = (config.scale, config.degradation)
    on_clip = callbacks.on_degraded
    versions = (train.pairs(*pair, config.seed + k, on_clip) for k in range(config.versions))
    return TrainingClips(
        [clip for version in versions for clip in version],
        val.pairs(*pair, 0, on_clip, config.validate_frames),
        facts,
    )


def _open_store(
    folder: Path,
    prepared: Path,
    folders: ClipFolders,
    names: Path | None,
    callbacks: LoadingCallbacks,
) -> ClipStore:
    """Open a store, or decode a folder of videos to the store `prepared`."""
    if not is_store(folder):
        sources = _usable(folder, find_clips(folder, names), folders.noncommercial, callbacks)
        return stores.prepare(sources, prepared, None, 0, callbacks.on_prepared, folders.height)
    if folders.height is not None:
        raise UsageError(
            f"height={folders.height}: {folder} is a store, whose clips have their size; give the "
            "height to `sharpreel data prepare`."
        )
    store = open_store(folder)
    if names is not None:
        store = store.only(read_list(names))
    usable = _usable(folder, store.entries, folders.noncommercial, callbacks)
    return store.only(entry.name for entry in usable)


def _usable(
    folder: Path, clips: Sequence[Rated], noncommercial: bool, callbacks: LoadingCallbacks
) -> Sequence[Rated]:
    """Return the clips whose rights allow their use."""
    usable = clips if noncommercial else allowed(clips)[0]
    if not usable:
        raise UsageError(
            f"{folder}: all clips are noncommercial; noncommercial=True includes them."
        )
    if len(usable) < len(clips):
        callbacks.note(f"{len(clips) - len(usable)} noncommercial clips are skipped")
    return usable
