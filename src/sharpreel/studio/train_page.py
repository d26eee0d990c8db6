"""Train: choose a recipe or a checkpoint and settings; watch the training; stop it, go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from sharpreel.errors import InputError, UsageError
from sharpreel.media import images
from sharpreel.models import MODELS
from sharpreel.models.weights import BUNDLED, load_model
from sharpreel.studio import charts, jobs, progress, widgets
from sharpreel.studio.jobs import Job
from sharpreel.studio.widgets import Videos

if TYPE_CHECKING:
    from sharpreel.training.config import TrainConfig

HEIGHTS = (0, 180, 240, 360, 480, 540, 720, 1080, 1440, 2160)  # 0: as the clips are
OPTIMIZERS = ("adam", "adamw", "adagrad", "sgd")
SCHEDULES = ("constant", "step", "cosine", "onecycle")


def show() -> None:
    st.title("Train")
    widgets.form_or_job("train", jobs.RUNS, "A new training", _form, _watch)


# A new one -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """What the page asks for, before it is known whether it can be had."""

    recipe: str
    scale: int | None
    settings: dict[str, str]
    videos: Videos
    val: Videos
    start_from: str | None  # "": a fresh network; None: a checkpoint that is not known yet
    epochs: int | None
    height: int
    device: str
    threads: int

    def words(self, job: Job) -> list[str]:
        """Arguments of `sharpreel` for this job, checked as far as that is possible at once.

        Raises:
            SharpreelError: It cannot be had; one line says why.
        """
        from sharpreel.data.clips import find_clips, split
        from sharpreel.data.store import is_store, open_store
        from sharpreel.training import recipes
        from sharpreel.training.setup import validate_device

        if self.start_from is None:
            raise UsageError(widgets.NO_MODEL)
        config = recipes.configure(self.recipe, self.settings, self.scale)
        validate_device(self.device)
        if self.start_from:
            load_model(self.start_from)
        source = self.videos.place(job.uploads / "videos")
        val = self.val.place(job.uploads / "val")
        assert source is not None
        store = is_store(source)
        names = open_store(source).names if store else [c.name for c in find_clips(source)]
        if val is None:
            split(names, config.seed)
        if store and self.height:
            raise UsageError(f"{source} is a store, whose clips have their size already.")
        words = ["train", self.recipe, "--data", str(source), "--json", "--device", self.device]
        words += ["--scale", str(self.scale)] if self.scale is not None else []
        words += ["--val", str(val)] if val is not None else []
        words += ["--from", self.start_from] if self.start_from else []
        words += ["--epochs", str(self.epochs)] if self.epochs is not None else []
        words += ["--height", str(self.height)] if self.height else []
        words += ["--threads", str(self.threads)] if self.threads else []
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        return words


def recipe_names() -> dict[str, str]:
    """What can be trained: recipes, and the best of each search, by what they are called."""
    from sharpreel.training.recipes import RECIPES

    found = {name: name for name in RECIPES}
    for job in jobs.all_jobs(jobs.home() / jobs.SEARCHES):
        best = job.folder / "best.json"
        if best.is_file():
            found[f"best of {job.name}"] = str(best)
    return found


def _form() -> None:
    from sharpreel.training import recipes

    start_from, card = _beginning()
    chosen, recipe = _recipe(card)
    given = card.get("arguments", {})
    videos = widgets.choose_videos("train", "Videos to learn from")
    with st.expander("Videos to score on (else a tenth of those above)"):
        val = widgets.choose_videos("train-val", "Videos", optional=True)
    scale, height = _size(recipe, recipes.configure(recipe), given.get("scale"))
    plain = recipes.configure(recipe, None, scale).arguments
    settings = {
        f"arguments.{name}": json.dumps(value)
        for name, value in given.items()
        if name != "scale" and plain.get(name) != value
    }
    config = recipes.configure(recipe, settings, scale)
    more, epochs = _settings(config, f"{chosen} x{scale} {start_from}")
    left, right = st.columns(2)
    device = left.selectbox("Device", ["auto", "cpu", "cuda"], key="train-device")
    threads = int(right.number_input("Processor threads (0: all)", 0, 512, 0, key="train-threads"))
    runs = jobs.home() / jobs.RUNS
    free = jobs.free_name(runs, config.name)
    name = st.text_input("Name of the run", free, key=f"train-name {config.name}")
    if st.button("Start training", type="primary", key="train-start"):
        wish = Wish(
            recipe, scale, settings | more, videos, val, start_from, epochs, height, device, threads
        )
        with jobs.new_job(runs, name) as job:
            job.start([*wish.words(job), "--out", str(job.folder)])
        widgets.show_next("train", job)


def _beginning() -> tuple[str | None, dict[str, Any]]:
    """The checkpoint to begin with, as in `Wish`, and its card."""
    ways = ["A fresh network", "A checkpoint (up-training)"]
    if st.radio("Begin with", ways, horizontal=True, key="train-begin") == ways[0]:
        return "", {}
    files = sorted(BUNDLED.glob("*.safetensors"))
    bundled = {f"{path.stem} (in the package)": str(path) for path in files}
    start_from = widgets.choose_model("train-from", "Checkpoint", bundled)
    if start_from is not None:
        with widgets.errors_shown():
            return start_from, _card(start_from)
    return None, {}


def _recipe(card: dict[str, Any]) -> tuple[str, str]:
    """What the recipe is called here, and its name or file; at first the checkpoint's own."""
    from sharpreel.training.recipes import RECIPES, configure

    names = recipe_names()
    if (coming := st.session_state.pop("train-recipe-next", None)) in names:
        st.session_state["train-recipe"] = coming
    known = card.get("recipe", {}).get("name") or _recipe_for(card.get("model"))
    at = list(names).index(known) if known in names else 0
    chosen = st.selectbox("Recipe", list(names), at, key=None if card else "train-recipe")
    st.caption((RECIPES[configure(names[chosen]).name].__doc__ or "").splitlines()[0])
    return chosen, names[chosen]


def _card(path: str) -> dict[str, Any]:
    """A checkpoint's card; of a foreign one what its tensors tell."""
    model = load_model(path)
    family = next((name for name, spec in MODELS.items() if spec is model.spec), model.name)
    return {"model": family, **model.card}


def _recipe_for(family: str | None) -> str | None:
    """The first recipe that trains such a network."""
    from sharpreel.training.recipes import RECIPES

    return next((name for name, make in RECIPES.items() if make().model == family), None)


def _size(recipe: str, config: TrainConfig, given: float | None) -> tuple[int | None, int]:
    """The factor, where the recipe leaves a choice, and the height of the clips; 0: theirs."""
    from sharpreel.training import recipes

    left, right = st.columns(2)
    height = left.selectbox(
        "High resolution",
        HEIGHTS,
        key="train-height",
        format_func=lambda h: f"{h} lines" if h else "as the clips are",
        help="Clips are reduced to this height and keep their own aspect; none is enlarged.",
    )
    if config.task == "bursts":
        right.text_input("Low resolution", "the same size", disabled=True, key="train-same")
        return None, height
    free = recipes.has_factors(config.name)
    every: list[Any] = list(MODELS[config.model].scales) if free else [config.scale]
    factors = every if given is None else [int(given) if given == int(given) else given]

    def low(factor: int) -> str:
        lines = f"{height // factor} lines" if height else f"1/{factor} of that"
        return f"{lines} (factor {factor})"

    at = factors.index(config.scale) if config.scale in factors else 0
    factor = right.selectbox(
        "Low resolution", factors, at, format_func=low, key=f"train-low {recipe} {given}"
    )
    return (factor if free else None), height


def _settings(config: TrainConfig, key: str) -> tuple[dict[str, str], int | None]:
    """What differs from the recipe, and epochs where they are wanted instead of steps."""
    found: dict[str, str] = {}

    def differs(name: str, value: object, before: object) -> None:
        if str(value).strip() != str(before):
            found[name] = str(value).strip()

    from sharpreel.training.losses.pixel import LOSSES

    one, two, three, four = st.columns(4)
    rate = f"{config.learning_rate:g}"
    differs("learning_rate", one.text_input("Learning rate", rate, key=f"rate {key}"), rate)
    at = OPTIMIZERS.index(config.optimizer)
    differs("optimizer", two.selectbox("Optimiser", OPTIMIZERS, at, key=f"optimiser {key}"),
            config.optimizer)  # fmt: skip
    losses = list(LOSSES)
    picked = three.selectbox("Loss", losses, losses.index(config.loss), key=f"loss {key}")
    differs("loss", picked, config.loss)
    at = SCHEDULES.index(config.schedule)
    differs("schedule", four.selectbox("Schedule", SCHEDULES, at, key=f"schedule {key}"),
            config.schedule)  # fmt: skip
    one, two, three, four = st.columns(4)
    stages = [[stage.share, stage.clip_len, stage.batch] for stage in config.stages]
    several = " (in all stages)" if len(stages) > 1 else ""
    batch = one.number_input(f"Batch size{several}", 1, 1024, stages[0][2], key=f"batch {key}")
    patch = two.number_input("Side of the crops, low resolution", 8, 1024, config.patch,
                             key=f"patch {key}")  # fmt: skip
    differs("patch", patch, config.patch)
    found |= _context(config, key, three, four, stages)
    if batch != stages[0][2]:
        for stage in stages:
            stage[2] = int(batch)
    if stages != [[s.share, s.clip_len, s.batch] for s in config.stages]:
        found["stages"] = json.dumps(stages)
    epochs = None
    one, two, three = st.columns([1, 1, 2])
    length = one.radio("Length", ["Epochs", "Steps"], 1, horizontal=True, key=f"length {key}")
    if length == "Epochs":
        epochs = int(two.number_input("Epochs", 1, 100_000, 3, key=f"epochs {key}"))
        st.caption("An epoch learns from as many frames as the clips have, and ends with a score.")
    else:
        steps = int(two.number_input("Steps", 1, 10_000_000, config.steps, key=f"steps {key}"))
        differs("steps", steps, config.steps)
        usual = min(config.validate_every, max(steps // 10, 1))
        every = int(
            three.number_input(
                "Score every so many steps", 1, 1_000_000, usual, key=f"every {key} {steps}"
            )
        )
        differs("validate_every", every, config.validate_every)
        differs("save_every", min(config.save_every, every), config.save_every)
    text = st.text_area("Other settings, NAME=VALUE on a line each", key=f"more {key}",
                        placeholder="weight_decay=0.01\ngan.features=discriminator")  # fmt: skip
    return found | widgets.settings_of_lines(text), epochs


def _context(
    config: TrainConfig, key: str, left: Any, right: Any, stages: list[list[Any]]
) -> dict[str, str]:
    """Frames back and forward where the network has them, else the frames of a clip."""
    arguments = config.arguments
    if "past" in arguments:
        found = {}
        for column, name, label in (
            (left, "past", "Frames back"),
            (right, "future", "Frames forward"),
        ):
            count = column.number_input(label, 0, 10, int(arguments[name]), key=f"{name} {key}")
            if count != arguments[name]:
                found[f"arguments.{name}"] = str(count)
        return found
    if "num_frames" in arguments:
        count = left.number_input("Frames it looks at", 2, 31, int(arguments["num_frames"]),
                                  key=f"frames {key}")  # fmt: skip
        return {} if count == arguments["num_frames"] else {"arguments.num_frames": str(count)}
    length = left.number_input("Frames of a clip", 1, 100, stages[0][1], key=f"clip {key}")
    seen = {"causal": "all, by its state", "both": "all of the clip", None: "none"}
    right.text_input(
        "Frames back", seen[MODELS[config.model].recurrent], disabled=True, key=f"state {key}"
    )
    if length != stages[0][1]:
        for stage in stages:
            stage[1] = int(length)
    return {}


# One that is there ---------------------------------------------------------------------------


def _watch(job: Job) -> None:
    outcome = widgets.control(
        job, "train", ("--resume",) if (job.folder / "last.pt").is_file() else ()
    )
    if outcome.state == "finished":
        _result(job)
    widgets.live(job, lambda: _live(job), outcome.state == "running")


def _result(job: Job) -> None:
    event = next((e for e in reversed(job.events()) if e["event"] == "trained"), None)
    if event is None:
        return
    path = Path(event["path"])
    st.caption(f"`{path}` runs with `sharpreel upscale -m`, and on the page Test.")
    widgets.hand_over(path, "Download the model", "train-model")


def _live(job: Job) -> None:
    rows = widgets.follower(job, job.folder / "batches.jsonl").read()
    events = widgets.follower(job, job.events_path)
    loaded = progress.loading(events.read(), events.seen)
    steps, epoch = _lengths(job.folder)
    for share in progress.bars(rows, steps, epoch, loaded):
        st.progress(share.done, share.text)
    drawn = progress.curves(rows)
    titles = {"training batches": "step", "validation batches": "clip", "epochs": "epoch"}
    for row in progress.ROWS:
        st.markdown(f"**{row.capitalize()}**")
        if not any(drawn[row, measure] for measure in progress.COLUMNS):
            st.caption("None yet.")
            continue
        for column, (measure, title) in zip(st.columns(3), progress.COLUMNS.items(), strict=True):
            with column:
                st.caption(title)
                spec = charts.chart(drawn[row, measure], titles[row])
                st.vega_lite_chart(spec, key=f"{row} {measure}")
    _pictures(job.folder / "validation.png")


def _lengths(run: Path) -> tuple[int, int]:
    try:
        config = json.loads((run / "config.json").read_text())
        return int(config["steps"]), int(config["validate_every"])
    except (OSError, ValueError, KeyError):
        return 1, 1  # not begun


def _pictures(path: Path) -> None:
    """Bicubic, network and truth of the last validation."""
    try:
        whole = images.read_rgb(path)
    except InputError:
        return
    width = whole.shape[1] // 3
    st.markdown("**A piece of the first validation clip**")
    names = ("bicubic", "network", "truth")
    for k, (column, name) in enumerate(zip(st.columns(3), names, strict=True)):
        column.image(whole[:, k * width : (k + 1) * width], name)
