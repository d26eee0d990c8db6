"""The form of a new training run, and the command that it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from sharpreel.errors import UsageError
from sharpreel.models import MODELS
from sharpreel.models.weights import BUNDLED, load_model
from sharpreel.studio import widgets
from sharpreel.studio.folder import RUNS, SEARCHES, all_jobs, free_name, new_job, studio_folder
from sharpreel.studio.jobs import Job
from sharpreel.studio.widgets import ChosenVideos

if TYPE_CHECKING:
    from sharpreel.training.config import TrainConfig

HEIGHTS = (0, 180, 240, 360, 480, 540, 720, 1080, 1440, 2160)  # 0: as in the clips
OPTIMIZERS = ("adam", "adamw", "adagrad", "sgd")
SCHEDULES = ("constant", "step", "cosine", "onecycle")


@dataclass(frozen=True)
class TrainingRequest:
    """What the form asks for, not yet validated.

    Attributes:
        start_from: A checkpoint; "" for an untrained network, None while none is chosen.
        height: Of the clips, 0: their own.
        threads: 0: all.
    """

    recipe: str
    scale: int | None
    settings: dict[str, str]
    videos: ChosenVideos
    val: ChosenVideos
    start_from: str | None
    epochs: int | None
    height: int
    device: str
    threads: int

    def arguments(self, job: Job) -> list[str]:
        """Return the arguments of `sharpreel` for a job, after saving uploads.

        Raises:
            SharpreelError: The request cannot be fulfilled as given.
        """
        config = self._validated_config()
        source = self.videos.save(job.uploads / "videos")
        val = self.val.save(job.uploads / "val")
        assert source is not None
        self._validate_clips(source, val, config.seed)
        options = {
            "--scale": self.scale,
            "--val": val,
            "--from": self.start_from or None,
            "--epochs": self.epochs,
            "--height": self.height or None,
            "--threads": self.threads or None,
        }
        arguments = ["train", self.recipe, "--data", str(source), "--json"]
        arguments += ["--device", self.device]
        for option, value in options.items():
            arguments += [option, str(value)] if value is not None else []
        for name, setting in self.settings.items():
            arguments += ["--set", f"{name}={setting}"]
        return arguments

    def _validated_config(self) -> TrainConfig:
        from sharpreel.training.recipes import configure
        from sharpreel.training.setup import validate_device

        if self.start_from is None:
            raise UsageError(widgets.NO_MODEL)
        config = configure(self.recipe, self.settings, self.scale)
        validate_device(self.device)
        if self.start_from:
            load_model(self.start_from)
        return config

    def _validate_clips(self, source: Path, val: Path | None, seed: int) -> None:
        from sharpreel.data.clips import find_clips, split
        from sharpreel.data.store import is_store, open_store

        stored = is_store(source)
        names = open_store(source).names if stored else [c.name for c in find_clips(source)]
        if val is None:
            split(names, seed)
        if stored and self.height:
            raise UsageError(f"{source} is a store, whose clips have their size already.")


def recipe_names() -> dict[str, str]:
    """Return recipes, and the best of each search: label -> name or path."""
    from sharpreel.training.recipes import RECIPES

    names = {name: name for name in RECIPES}
    for job in all_jobs(studio_folder() / SEARCHES):
        best = job.folder / "best.json"
        if best.is_file():
            names[f"best of {job.name}"] = str(best)
    return names


def form() -> None:
    """Show the form; its button starts the run and shows it."""
    from sharpreel.training.recipes import configure

    start_from, card = _choose_start()
    label, recipe = _choose_recipe(card)
    given = card.get("arguments", {})
    videos = widgets.choose_videos("train", "Training videos")
    with st.expander("Validation videos (default: 10 % of those above)"):
        val = widgets.choose_videos("train-val", "Videos", optional=True)
    scale, height = _choose_size(recipe, configure(recipe), given.get("scale"))
    default = configure(recipe, None, scale).arguments
    settings = {
        f"arguments.{name}": json.dumps(value)
        for name, value in given.items()
        if name != "scale" and default.get(name) != value
    }
    config = configure(recipe, settings, scale)
    more, epochs = _choose_settings(config, f"{label} x{scale} {start_from}")
    left, right = st.columns(2)
    device = left.selectbox("Device", ["auto", "cpu", "cuda"], key="train-device")
    threads = int(right.number_input("CPU threads (0: all)", 0, 512, 0, key="train-threads"))
    runs = studio_folder() / RUNS
    name = st.text_input(
        "Name of the run", free_name(runs, config.name), key=f"train-name {config.name}"
    )
    if st.button("Start training", type="primary", key="train-start"):
        request = TrainingRequest(
            recipe, scale, settings | more, videos, val, start_from, epochs, height, device, threads
        )
        with new_job(runs, name) as job:
            job.start([*request.arguments(job), "--out", str(job.folder)])
        widgets.show_next("train", job)


def _choose_start() -> tuple[str | None, dict[str, Any]]:
    """Return the checkpoint to start from, as in `TrainingRequest`, and its card."""
    modes = ["An untrained network", "A checkpoint (up-training)"]
    if st.radio("Start from", modes, horizontal=True, key="train-begin") == modes[0]:
        return "", {}
    files = sorted(BUNDLED.glob("*.safetensors"))
    bundled = {f"{path.stem} (bundled)": str(path) for path in files}
    start_from = widgets.choose_model("train-from", "Checkpoint", bundled)
    if start_from is not None:
        with widgets.errors_shown():
            return start_from, _read_card(start_from)
    return None, {}


def _choose_recipe(card: dict[str, Any]) -> tuple[str, str]:
    """Return the recipe's label, and its name or file; the default is the checkpoint's recipe."""
    from sharpreel.training.recipes import RECIPES, configure

    names = recipe_names()
    if (requested := st.session_state.pop("train-recipe-next", None)) in names:
        st.session_state["train-recipe"] = requested
    default = card.get("recipe", {}).get("name") or _recipe_for(card.get("model"))
    index = list(names).index(default) if default in names else 0
    label = st.selectbox("Recipe", list(names), index, key=None if card else "train-recipe")
    st.caption((RECIPES[configure(names[label]).name].__doc__ or "").splitlines()[0])
    return label, names[label]


def _read_card(path: str) -> dict[str, Any]:
    """Return a checkpoint's card; of a third-party one, what its tensors show."""
    model = load_model(path)
    family = next((name for name, spec in MODELS.items() if spec is model.spec), model.name)
    return {"model": family, **model.card}


def _recipe_for(family: str | None) -> str | None:
    """Return the first recipe that trains a network of this family."""
    from sharpreel.training.recipes import RECIPES

    return next((name for name, make in RECIPES.items() if make().model == family), None)


def _choose_size(recipe: str, config: TrainConfig, given: float | None) -> tuple[int | None, int]:
    """Return the scale, None when the recipe has only one, and the height of the clips.

    Args:
        given: The scale of the checkpoint to start from.
    """
    from sharpreel.training.recipes import has_scales

    left, right = st.columns(2)
    height = left.selectbox(
        "High resolution",
        HEIGHTS,
        key="train-height",
        format_func=lambda h: f"{h} lines" if h else "as in the clips",
        help="Clips are scaled down to this height, keeping their aspect ratio; never enlarged.",
    )
    if config.task == "bursts":
        right.text_input("Low resolution", "the same size", disabled=True, key="train-same")
        return None, height
    several = has_scales(config.name)
    scales: list[Any] = list(MODELS[config.model].scales) if several else [config.scale]
    if given is not None:
        scales = [int(given) if given == int(given) else given]

    def label(scale: int) -> str:
        lines = f"{height // scale} lines" if height else f"1/{scale} of that"
        return f"{lines} (scale {scale})"

    index = scales.index(config.scale) if config.scale in scales else 0
    scale = right.selectbox(
        "Low resolution", scales, index, format_func=label, key=f"train-low {recipe} {given}"
    )
    return (scale if several else None), height


def _choose_settings(config: TrainConfig, key: str) -> tuple[dict[str, str], int | None]:
    """Return the settings that differ from the recipe, and the epochs if they replace steps."""
    settings = _choose_optimisation(config, key) | _choose_batches(config, key)
    length, epochs = _choose_length(config, key)
    text = st.text_area(
        "Other settings, one NAME=VALUE per line",
        key=f"more {key}",
        placeholder="weight_decay=0.01\ngan.features=discriminator",
    )
    return settings | length | widgets.parse_setting_lines(text), epochs


def _changed(config: TrainConfig, values: Mapping[str, object]) -> dict[str, str]:
    """Return the settings, as text, whose values differ from the config's."""
    texts = {name: str(value).strip() for name, value in values.items()}
    return {name: text for name, text in texts.items() if text != str(getattr(config, name))}


def _choose_optimisation(config: TrainConfig, key: str) -> dict[str, str]:
    from sharpreel.training.losses.pixel import LOSSES

    one, two, three, four = st.columns(4)
    rate = f"{config.learning_rate:g}"
    chosen_rate = one.text_input("Learning rate", rate, key=f"rate {key}").strip()
    index = OPTIMIZERS.index(config.optimizer)
    optimizer = two.selectbox("Optimiser", OPTIMIZERS, index, key=f"optimiser {key}")
    losses = list(LOSSES)
    loss = three.selectbox("Loss", losses, losses.index(config.loss), key=f"loss {key}")
    index = SCHEDULES.index(config.schedule)
    schedule = four.selectbox("Schedule", SCHEDULES, index, key=f"schedule {key}")
    changed = _changed(config, {"optimizer": optimizer, "loss": loss, "schedule": schedule})
    return changed if chosen_rate == rate else {"learning_rate": chosen_rate, **changed}


def _choose_batches(config: TrainConfig, key: str) -> dict[str, str]:
    """Show the sizes of batches, patches and clips."""
    one, two, three, four = st.columns(4)
    stages = [[stage.share, stage.clip_len, stage.batch] for stage in config.stages]
    unchanged = [list(stage) for stage in stages]
    several = " (in all stages)" if len(stages) > 1 else ""
    batch = one.number_input(f"Batch size{several}", 1, 1024, stages[0][2], key=f"batch {key}")
    patch = two.number_input(
        "Patch size, low resolution", 8, 1024, config.patch, key=f"patch {key}"
    )
    settings = _changed(config, {"patch": patch})
    settings |= _choose_frames(config, key, three, four, stages)
    if batch != stages[0][2]:
        for stage in stages:
            stage[2] = int(batch)
    if stages != unchanged:
        settings["stages"] = json.dumps(stages)
    return settings


def _choose_frames(
    config: TrainConfig, key: str, left: Any, right: Any, stages: list[list[Any]]
) -> dict[str, str]:
    """Show past and future frames of networks that have them, else the frames per clip.

    The latter are changed in `stages`.
    """
    arguments = config.arguments
    if "past" in arguments:
        settings = {}
        for column, name, label in (
            (left, "past", "Past frames"),
            (right, "future", "Future frames"),
        ):
            count = column.number_input(label, 0, 10, int(arguments[name]), key=f"{name} {key}")
            if count != arguments[name]:
                settings[f"arguments.{name}"] = str(count)
        return settings
    if "num_frames" in arguments:
        frames = int(arguments["num_frames"])
        count = left.number_input("Frames per window", 2, 31, frames, key=f"frames {key}")
        return {} if count == frames else {"arguments.num_frames": str(count)}
    length = left.number_input("Frames per clip", 1, 100, stages[0][1], key=f"clip {key}")
    seen = {"causal": "all, through its state", "both": "all of the clip", None: "none"}
    right.text_input(
        "Past frames", seen[MODELS[config.model].recurrent], disabled=True, key=f"state {key}"
    )
    if length != stages[0][1]:
        for stage in stages:
            stage[1] = int(length)
    return {}


def _choose_length(config: TrainConfig, key: str) -> tuple[dict[str, str], int | None]:
    """Return the settings of the length in steps, or the number of epochs."""
    one, two, three = st.columns([1, 1, 2])
    unit = one.radio("Length", ["Epochs", "Steps"], 1, horizontal=True, key=f"length {key}")
    if unit == "Epochs":
        epochs = int(two.number_input("Epochs", 1, 100_000, 3, key=f"epochs {key}"))
        st.caption(
            "An epoch trains on as many frames as the clips have, and ends with a validation."
        )
        return {}, epochs
    steps = int(two.number_input("Steps", 1, 10_000_000, config.steps, key=f"steps {key}"))
    default = min(config.validate_every, max(steps // 10, 1))
    label = "Validate every N steps"
    every = int(three.number_input(label, 1, 1_000_000, default, key=f"every {key} {steps}"))
    save_every = min(config.save_every, every)
    lengths = {"steps": steps, "validate_every": every, "save_every": save_every}
    return _changed(config, lengths), None
