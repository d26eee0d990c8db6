"""Train any network of the table: a `TrainConfig` and a store of clips in, a model file out.

    store --sample_batch--> (lr, hr) --network--> sr --losses--> step --evaluate--> best
              threads ahead                                        every N steps

The run folder holds `config.json`, `last.pt` (all that is needed to go on), `best.safetensors` (the
best weights so far, a model file), `log.jsonl`, and in the end `<name>_x<scale>.safetensors`,
which `sharpreel upscale -m` runs at once. Giving the same command again goes on where it stopped,
to the same weights bit for bit on a CPU: what a batch is depends on its number alone, and
everything else that has a state is in `last.pt`. SIGTERM saves before it ends the process.

Devices, precision and several processes are Lightning Fabric's (`torchrun` starts them). On a CPU
everything is float32 in channels_last unless bf16 is asked for, which a processor with bf16
instructions is faster in and every other slower.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sharpreel.data.sampling import check_clips, choose_target, middle, sample_batch, sample_bursts
from sharpreel.data.store import Clip, Frames
from sharpreel.engines.pytorch import TorchEngine
from sharpreel.errors import InputError, Terminated, TrainingError, UsageError, write_error
from sharpreel.evaluation.validation import Measure, Score, mean_gain, scores
from sharpreel.models import MODELS
from sharpreel.models.reel import Bicubic
from sharpreel.models.weights import Model, read_card
from sharpreel.ops import Pixels
from sharpreel.system.files import atomic_write
from sharpreel.system.prefetch import prefetch
from sharpreel.training.checkpoint import card_of, save_checkpoint, save_model, write_model
from sharpreel.training.config import TrainConfig, config_text, what_differs
from sharpreel.training.losses.pixel import SSIM_TAPS, mse, pixel_loss, ssim7
from sharpreel.training.setup import (
    DiscriminatorModule,
    TrainModule,
    build_optimizer,
    combined_loss,
    load_start,
    make_fabric,
    unwrap,
)
from sharpreel.training.trackers import NullTracker, Tracker

if TYPE_CHECKING:
    from lightning_fabric import Fabric


SSIM_EVERY = 10  # steps
LOOKED_INTO = 1000  # clips at most, to tell one set of them from another


@dataclass
class TrainProgress:
    """One line of a training's progress; handed to `tell`."""

    step: int
    steps: int
    loss: float | None  # None before the first step
    seconds_per_step: float
    waited: float  # share of the time that the network waited for data
    terms: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    gain_db: float | None = None
    note: str = ""


class Trainer:
    """A training under way: all that has a state, what one step is, and how it is kept.

    Args:
        train_clips: Pairs to learn from; bursts (T, H, W, 3) for the task "bursts".
        val_clips: Pairs to score on, not among them.
        start_from: A checkpoint to begin with (up-training): one of ours or of others.
    """

    def __init__(
        self,
        config: TrainConfig,
        train_clips: Sequence[Any],
        val_clips: Sequence[Any],
        run: Path,
        fabric: Fabric | None = None,
        tracker: Tracker | None = None,
        start_from: str | None = None,
    ) -> None:
        config.check()
        self.config, self.run = config, run
        self.fabric = fabric or make_fabric(config.precision)
        self.fabric.launch()
        torch.manual_seed(config.seed)
        task = TrainModule(config)
        self._check_shares()
        start = None if start_from is None else load_start(task.network, config, start_from)
        self.begun = {
            "training clips (--data)": digest_of(train_clips),
            # How many frames are scored may change.
            "validation clips (--val)": digest_of(
                [middle(v, config.scale, 1, 0) if isinstance(v, Clip) else v
                 for v in val_clips]
            ),
            "start (--from)": start,
        }  # fmt: skip
        task = task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {k: v.detach().clone() for k, v in task.network.state_dict().items()}
        flow = [p for n, p in task.network.named_parameters() if n.startswith("spynet.")]
        others = [p for n, p in task.network.named_parameters() if not n.startswith("spynet.")]
        groups: list[dict[str, Any]] = [{"params": others, "share": 1.0, "flow": False}]
        if flow:
            groups.append({"params": flow, "share": config.flow_rate, "flow": True})
        self.task, self.optimizer = self.fabric.setup(task, build_optimizer(config, groups))
        self.judge: Any = None
        self.pixel_loss = pixel_loss(config.loss)
        if config.gan is not None:
            judge = DiscriminatorModule(config.gan.discriminator).to(self.fabric.device)
            self.four_fold = combined_loss(config, judge, self.fabric.device)
            steps = torch.optim.Adam(judge.parameters(), lr=config.gan.learning_rate)
            self.judge, self.judge_optimizer = self.fabric.setup(judge, steps)
        self.average = {k: v.to(self.fabric.device) for k, v in self.average.items()}
        self.train_clips, self.val_clips = self._fitting(train_clips), val_clips
        self._part = (self.fabric.global_rank, self.fabric.world_size)
        self._clip_lens = {stage: task.clip_len(stage) for stage in config.stages}
        self.tracker = tracker or NullTracker()
        self.bicubic: nn.Module | None = None
        if config.task == "sr":
            self.bicubic = Bicubic(config.scale).to(self.fabric.device)
        self.step, self.best = 0, -math.inf
        self.start: float | None = None  # PSNR of what it begins with
        self.pictured = -1  # step of the picture in the run folder
        self._stop = False

    def _check_shares(self) -> None:
        """Each process must learn from as many samples, since their gradients count alike."""
        processes = self.fabric.world_size
        for stage in self.config.stages:
            if stage.batch % processes:
                raise UsageError(
                    f"stages: a batch of {stage.batch} cannot be shared evenly by {processes} "
                    "processes. Choose a multiple, or fewer processes."
                )

    def _fitting(self, clips: Sequence[Any]) -> Sequence[Any]:
        if self.config.task == "bursts":
            kept = [b for b in clips if min(b.shape[1:3]) >= self.config.patch and len(b) > 1]
            if not kept:
                raise UsageError(
                    f"No burst has two scans or more as large as a patch of {self.config.patch}."
                )
            return kept
        return check_clips(clips, self.config.patch)

    # One step ------------------------------------------------------------------------------

    def cut(self, step: int) -> list[tuple[Frames, Frames]]:
        """The (lr, hr) of one step for this process, one pair for each accumulated batch: bytes.

        It is called in a thread of its own, so nothing of torch is touched here.
        """
        c, stage = self.config, self.config.stage(step)
        clip_len = self._clip_lens[stage]
        pairs = []
        for k in range(c.accumulate):
            number = step * c.accumulate + k
            if c.task == "bursts":
                pair = sample_bursts(
                    self.train_clips, stage.batch, clip_len, c.patch, c.seed, number, self._part
                )
            else:
                pair = sample_batch(
                    self.train_clips, c.scale, stage.batch, clip_len, c.patch, c.seed, number,
                    self._part,
                )  # fmt: skip
            pairs.append(pair)
        return pairs

    def batch(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """`cut` as tensors."""
        return as_tensors(self.cut(step))

    def learn(self, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """One step of the generator, and then one of the judge, who has seen the same pictures.

        Returns:
            Each term of the generator's loss by name, "loss" their sum, "judge", and "psnr" and
        "ssim" of the batch.

        Raises:
            TrainingError: The loss is no number; the batch is kept in the run folder.
        """
        c = self.config
        self._set_rates()
        judged = c.gan is not None and self.step >= c.gan.start
        if judged:
            self.judge.requires_grad_(False)
        terms: dict[str, float] = {}
        made = []
        for k, (lr8, hr8) in enumerate(pairs):
            lr, hr = (x.to(self.fabric.device).float() / 255 for x in (lr8, hr8))
            hr = hr if c.task == "bursts" else unwrap(self.task).wanted(hr)
            with self._together(k + 1 == len(pairs)):
                sr = self.task(lr)
                loss, told = self._objective(sr, hr, judged)
                if not math.isfinite(float(loss.detach())):
                    self._keep_batch(lr8, hr8)
                    raise TrainingError(
                        f"The loss is {float(loss.detach())} at step {self.step}; the batch is "
                        f"{self._nan_path()}, and {self.run / 'last.pt'} is the state before. "
                        "Lower learning_rate, or set clip_gradient."
                    )
                self.fabric.backward(loss / len(pairs))
            told |= {"loss": float(loss.detach()), **self._likeness(sr.detach(), hr)}
            for name, value in told.items():
                terms[name] = terms.get(name, 0.0) + value / len(pairs)
            made.append((sr.detach(), hr))
        if c.clip_gradient:
            self.fabric.clip_gradients(self.task, self.optimizer, max_norm=c.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if judged:
            self.judge.requires_grad_(True)
            terms["judge"] = self._judge_learns(made)
        self.step += 1
        self._average()
        return terms

    def _likeness(self, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """PSNR of the batch in dB (RGB) and, at every tenth step, its SSIM."""
        sr = sr.float().clamp(0, 1)
        found = {"psnr": _psnr(sr, hr)}
        if self.step % SSIM_EVERY == 0 and min(sr.shape[-2:]) >= SSIM_TAPS:
            found["ssim"] = float(ssim7(sr, hr))
        return found

    @torch.no_grad()
    def compare(self, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """What bicubic (for bursts, the scan as it is) makes of a batch: the line to cross.

        Returns:
            "bicubic_psnr", "bicubic_ssim" and, where the network's loss is that of the image alone,
            "bicubic_loss"; see `learn`.
        """
        found: list[dict[str, float]] = []
        for lr8, hr8 in pairs:
            lr, hr = (x.to(self.fabric.device).float() / 255 for x in (lr8, hr8))
            task = unwrap(self.task)
            if self.bicubic is None:
                sr = lr[:, task.past, None]
            else:
                sr, hr = self.bicubic(task.wanted(lr)), task.wanted(hr)
            told = {"psnr": _psnr(sr.clamp(0, 1), hr)}
            if min(sr.shape[-2:]) >= SSIM_TAPS:
                told["ssim"] = float(ssim7(sr.clamp(0, 1), hr))
            if self.config.gan is None:
                told["loss"] = float(self.pixel_loss(sr, hr))
            found.append(told)
        return {f"bicubic_{name}": float(np.mean([t[name] for t in found])) for name in found[0]}

    def _objective(self, sr: Tensor, hr: Tensor, judged: bool) -> tuple[Tensor, dict[str, float]]:
        """The generator's loss, and its terms by name."""
        if not judged:
            return self.pixel_loss(sr, hr), {}
        judge = unwrap(self.judge)  # nothing of its own to share: it does not learn here
        fake = judge(sr)
        loss, terms = self.four_fold(sr, hr, fake, judge(hr) if judge.logits else None)
        return loss, {name: float(term) for name, term in terms.items()}

    def _judge_learns(self, made: list[tuple[Tensor, Tensor]]) -> float:
        total = 0.0
        for sr, hr in made:
            loss = self.four_fold.adversarial.discriminator(self.judge(sr), self.judge(hr))
            self.fabric.backward(loss / len(made))
            total += float(loss.detach()) / len(made)
        self.judge_optimizer.step()
        self.judge_optimizer.zero_grad(set_to_none=True)
        return total

    def _together(self, last: bool) -> AbstractContextManager[Any]:
        """Processes share gradients once, with the last of the accumulated batches."""
        if last or self.fabric.world_size == 1:
            return nullcontext()
        quiet: AbstractContextManager[Any] = self.fabric.no_backward_sync(self.task)
        return quiet

    def _set_rates(self) -> None:
        rate = self.config.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            frozen = group["flow"] and self.step < self.config.freeze_flow
            group["lr"] = 0.0 if frozen else rate * group["share"]

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 10)) if self.config.ema else 0.0
        for name, value in unwrap(self.task).network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    # Keeping -------------------------------------------------------------------------------

    def _nan_path(self) -> Path:
        return self.run / f"nan-step-{self.step}.npz"

    def _keep_batch(self, lr: Tensor, hr: Tensor) -> None:
        try:
            np.savez_compressed(self._nan_path(), lr=lr.numpy(), hr=hr.numpy())
        except OSError as e:
            raise write_error(self._nan_path(), e) from e

    def state(self) -> dict[str, Any]:
        """All that a training which goes on must know."""
        state: dict[str, Any] = {
            "config": config_text(self.config),
            "begun": self.begun,
            "step": self.step,
            "best": self.best,
            "start": self.start,
            "model": unwrap(self.task).network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["rng_cuda"] = torch.cuda.get_rng_state_all()
        if self.judge is not None:
            state["judge"] = unwrap(self.judge).state_dict()
            state["judge_optimizer"] = self.judge_optimizer.state_dict()
        if self._scaler is not None:
            state["scaler"] = self._scaler.state_dict()
        return state

    @property
    def _scaler(self) -> Any:
        """What keeps gradients in fp16 from vanishing, None in other precisions."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def save(self) -> None:
        """Write `last.pt` whole, or leave the one before."""
        if self.fabric.global_rank == 0:
            save_checkpoint(self.run / "last.pt", self.state())

    def load(self) -> bool:
        """Go on from `last.pt`; False when there is none.

        Raises:
            UsageError: It was made with other settings, of other clips or from another start.
            InputError: It is damaged.
        """
        last = self.run / "last.pt"
        if not last.is_file():
            return False
        try:
            saved = torch.load(last, weights_only=True, map_location=self.fabric.device)
            changed = what_differs(
                json.loads(saved["config"]), json.loads(config_text(self.config))
            )
        except Exception as e:
            raise InputError(
                f"{last}: damaged ({type(e).__name__}). Delete it to start over."
            ) from e
        if changed:
            raise UsageError(
                f"{self.run}: begun with other settings ({', '.join(changed)}). Choose another "
                "--out, or the settings of its config.json."
            )
        self._same_as(saved.get("begun"))
        unwrap(self.task).network.load_state_dict(saved["model"])
        self.average, self.step, self.best = saved["average"], saved["step"], saved["best"]
        self.start = saved.get("start")
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.judge is not None:
            unwrap(self.judge).load_state_dict(saved["judge"])
            self.judge_optimizer.load_state_dict(saved["judge_optimizer"])
        if self._scaler is not None and "scaler" in saved:
            self._scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"].cpu())
        if "rng_cuda" in saved and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["rng_cuda"]])
        return True

    def _same_as(self, begun: dict[str, str | None] | None) -> None:
        """Go on with what a run was begun with; UsageError when this is something else.

        Args:
            begun: None in checkpoints of before it was kept.
        """
        if begun is None:
            return
        now = {k: v for k, v in self.begun.items() if v is not None}  # without --from it goes on
        changed = [name for name, digest in now.items() if begun.get(name) != digest]
        if changed:
            raise UsageError(
                f"{self.run}: begun with other {', other '.join(changed)}. "
                "Choose another --out, or give what it was begun with."
            )
        self.begun = begun

    # Validation ----------------------------------------------------------------------------

    def module(self) -> nn.Module:
        """The network with the averaged weights, for use."""
        module = MODELS[self.config.model].build(self.config.arguments)
        module.load_state_dict({k: v.cpu() for k, v in self.average.items()})
        return module.eval()

    def as_model(self) -> Model:
        """What an engine must know of the network."""
        c = self.config
        card = {"arguments": dict(c.arguments)}
        return Model(c.name, MODELS[c.model], c.scale, card, None, None, "")

    def engine(self, device: str = "cpu") -> TorchEngine:
        """What runs the averaged weights, with the threads that training has: another number would
        round the steps after it otherwise."""
        threads = torch.get_num_threads()
        return TorchEngine(self.as_model(), device, self.module(), tile=0, threads=threads)

    def score(self) -> list[Score]:
        """Scores of the averaged weights on the validation clips, as `evaluate.py` takes them, with
        SSIM and loss as batches have them; the tracker hears each."""
        made = []
        for score in self._scores():
            made.append(score)
            self.tracker.scored(self.step, len(made), len(self.val_clips), score)
        return made

    def _scores(self) -> Iterator[Score]:
        if self.config.task == "bursts":
            return score_bursts(self.module(), self.val_clips, self._measures())
        c, engine = self.config, self.engine(self.fabric.device.type)
        clips = (middle(v, c.scale, c.validate_frames, c.validate_patch) for v in self.val_clips)
        return scores(engine, clips, self._measures())

    def _measures(self) -> dict[str, Measure]:
        """SSIM and the loss of the image term, of frames (H, W, C)."""

        def ssim(sr: Pixels, hr: Pixels) -> float:
            small = min(hr.shape[:2]) < SSIM_TAPS
            return math.nan if small else float(ssim7(_picture(sr), _picture(hr)))

        def loss(sr: Pixels, hr: Pixels) -> float:
            return float(self.pixel_loss(_picture(sr), _picture(hr)))

        return {"ssim": ssim, "loss": loss}

    # The loop ------------------------------------------------------------------------------

    def fit(self, tell: Callable[[TrainProgress], None] | None = None) -> None:
        """Train to the last step, from wherever the run is.

        Raises:
            Terminated: SIGTERM came; the state is saved.
            TrainingError: See `learn`.
        """
        tell = tell or (lambda progress: None)
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            goes_on = self.load()  # refuses before anything is written
            if self.fabric.global_rank == 0:
                atomic_write(self.run / "config.json", config_text(self.config))
                if not goes_on:
                    (self.run / "best.safetensors").unlink(missing_ok=True)
        except OSError as e:
            raise write_error(self.run / "config.json", e) from e
        self.tracker.begin(self.config, self.step)
        if self.val_clips and self.step == 0 and self.fabric.global_rank == 0:
            self._validated(tell, self._line([], 0.0, 0.0, 0))
        with _asked_to_stop() as stopped, closing(self.batches()) as batches:
            began, waited, since, seen = time.monotonic(), 0.0, self.step, []
            while self.step < self.config.steps:
                asked = time.monotonic()
                pairs = next(batches)
                waited += time.monotonic() - asked
                if self.step == self.config.judged_from:
                    self.best = -math.inf
                terms = self.learn(pairs)
                if (self.step - 1) % SSIM_EVERY == 0:
                    terms |= self.compare(pairs)
                seen.append(terms)
                self.tracker.step(self.step, terms)
                ended, told = self.step == self.config.steps, self._any(stopped())
                if self.step % self.config.save_every == 0 or ended or told:
                    spent = time.monotonic() - began
                    line = self._line(seen, spent, waited, self.step - since)
                    every = self.config.validate_every
                    if self.val_clips and (ended or (every and self.step % every == 0)):
                        if self.fabric.global_rank == 0:
                            self._validated(tell, line)
                    else:
                        tell(line)
                        self.tracker.line(line)
                    self.save()
                    self.fabric.barrier()
                    began, waited, since, seen = time.monotonic(), 0.0, self.step, []
                if told and not ended:
                    raise Terminated(
                        f"terminated at step {self.step}; saved. The same command goes on."
                    )

    def _any(self, said: bool) -> bool:
        """Does any process say so? All must stop at one step, or they wait for each other."""
        if self.fabric.world_size == 1:
            return said
        flag = torch.tensor(float(said), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))

    def batches(self) -> Generator[list[tuple[Tensor, Tensor]]]:
        """The batches that are left, cut in a thread of their own a few steps ahead."""
        steps = range(self.step, self.config.steps)
        with closing(prefetch((self.cut(step) for step in steps), 3)) as pairs:
            for pair in pairs:
                yield as_tensors(pair)

    def _line(
        self, seen: list[dict[str, float]], spent: float, waited: float, steps: int
    ) -> TrainProgress:
        names = dict.fromkeys(name for terms in seen for name in terms)
        mean = {n: float(np.mean([t[n] for t in seen if n in t])) for n in names}
        return TrainProgress(
            self.step, self.config.steps, mean.pop("loss", None),
            spent / max(steps, 1), waited / spent if spent else 0.0, mean,
        )  # fmt: skip

    def _validated(self, tell: Callable[[TrainProgress], None], line: TrainProgress) -> None:
        scores = self.score()
        line.psnr = float(np.mean([s.psnr for s in scores]))
        line.gain_db = mean_gain(scores)
        candidate = True
        if self.step == 0:
            self.start = line.psnr
            # An untrained network is none, and a GAN's start scores more than what it becomes.
            up_training = self.begun["start (--from)"] is not None
            candidate = up_training and self.config.judged_from != 0
        if candidate and line.psnr > self.best:
            self.best = line.psnr
            write_model(self.run / "best.safetensors", self, scores)
        if self.step == self.config.steps:
            line.note = self._worse(scores)
        tell(line)
        self.tracker.line(line)
        self.tracker.validated(self, self.step)

    def _worse(self, scores: list[Score]) -> str:
        """A warning when the best weights score less than what needed no training, else ""."""
        simple = "bicubic" if self.config.task == "sr" else "the scan as it is"
        lines = {"what it began with": self.start, simple: np.mean([s.bicubic for s in scores])}
        below = [
            f"{psnr - self.best:.3f} dB worse than {name}"
            for name, psnr in lines.items()
            if psnr is not None and psnr - self.best >= 0.0005
        ]
        if not below:
            return ""
        excuse = " A GAN gives PSNR for texture." if self.config.gan else " Lower learning_rate?"
        return f"The model is {' and '.join(below)}.{excuse}"

    def finish(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Write the model file that `sharpreel upscale -m` runs: the best weights validated, or the
        last average. Of several processes the first one writes, and the others wait.

        Args:
            extra: More fields for its card.
        """
        path = self.run / f"{self.config.name}_x{self.config.scale}.safetensors"
        if self.fabric.global_rank == 0:
            self._write_final(path, extra or {})
        self.fabric.barrier()
        return path

    def _write_final(self, path: Path, extra: Mapping[str, Any]) -> None:
        best = self.run / "best.safetensors"
        if best.is_file():
            import safetensors.torch

            card = read_card(best)
            tensors = safetensors.torch.load_file(best)
        else:
            card = card_of(self, [])
            tensors = {k: v.cpu() for k, v in self.average.items()}
        save_model(path, tensors, card | dict(extra))
        self.tracker.finished(path, card)


def _psnr(sr: Tensor, hr: Tensor) -> float:
    """Of a batch in [0, 1], dB."""
    return 10 * math.log10(1 / (float(mse(sr, hr)) + 1e-8))


def _picture(frame: Pixels) -> Tensor:
    """(H, W, C) levels of 8 bits as a clip of one frame, (1, 1, C, H, W) in [0, 1]."""
    pixels = np.ascontiguousarray(frame.transpose(2, 0, 1))
    return torch.from_numpy(pixels)[None, None].float() / 255


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """While inside, SIGTERM only asks to stop; the function says whether it has."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True

    try:
        before = signal.signal(signal.SIGTERM, ask)
    except ValueError:  # not the main thread: whoever started it must stop it otherwise
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)


def as_tensors(
    pairs: list[tuple[Frames, Frames]],
) -> list[tuple[Tensor, Tensor]]:
    """The same bytes for torch."""
    return [(torch.from_numpy(lr), torch.from_numpy(hr)) for lr, hr in pairs]


def digest_of(clips: Sequence[Any]) -> str:
    """What tells these clips from others: their names and sizes, and of a thousand some rows."""
    total, every = hashlib.sha256(), math.ceil(len(clips) / LOOKED_INTO)
    for number, clip in enumerate(clips):
        named = isinstance(clip, Clip)
        name, parts = (clip.name, (clip.hr, clip.lr)) if named else ("", (np.asarray(clip),))
        total.update(repr((name, [part.shape for part in parts])).encode())
        if number % every == 0:
            for part in parts:
                middle = part[len(part) // 2]
                total.update(middle[:: max(len(middle) // 8, 1)].tobytes())
    return total.hexdigest()


def score_bursts(
    module: nn.Module, bursts: Sequence[Any], more: Mapping[str, Measure] | None = None
) -> Iterator[Score]:
    """PSNR of the denoised reference to the best scan of its burst, and of the reference itself.

    Args:
        more: Measures besides, of levels of 8 bits; see `validation.scores`.
    """
    network: Any = module
    for number, burst in enumerate(bursts):
        grey = np.asarray(burst).mean(axis=3) / 255
        order = choose_target(np.asarray(burst))
        window = (order[2:] or order[1:2]) * (network.past + network.future)
        window = window[: network.past + network.future]
        window.insert(network.past, order[1])
        lr = torch.from_numpy(grey[window].astype(np.float32))[None, :, None]
        with torch.inference_mode():
            sr = network.centre(lr)[0, 0].clamp(0, 1).numpy()
        wanted = grey[order[0]]
        both = sr, grey[order[1]]
        psnr, before = (
            10 * math.log10(1 / max(float(np.mean((wanted - x) ** 2)), 1e-12)) for x in both
        )
        truth, *made = ((255 * x)[..., None].astype(np.float32) for x in (wanted, *both))
        found = {
            n: (take(made[0], truth), take(made[1], truth)) for n, take in (more or {}).items()
        }
        yield Score(f"burst {number}", psnr, before, found)


def train(
    config: TrainConfig,
    train_clips: Sequence[Any],
    val_clips: Sequence[Any],
    run: Path,
    *,
    fabric: Fabric | None = None,
    tracker: Tracker | None = None,
    start_from: str | None = None,
    tell: Callable[[TrainProgress], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Train to the end of `config.steps`, going on where `run` stopped.

    Args:
        train_clips, val_clips: Of `ClipStore.pairs` or `load_clips`; bursts (T, H, W, 3)
            for the task "bursts".
        extra: More fields for the card of the model file, such as what the data was.

    Returns:
        The model file.
    """
    training = Trainer(config, train_clips, val_clips, run, fabric, tracker, start_from)
    training.fit(tell)
    return training.finish(extra)
