"""Train any network of `MODELS`: a `TrainConfig` and clips in, a model file out.

    clips --BatchLoader--> (lr, hr) --network--> sr --losses--> step --Validator--> best
              thread ahead                                      every N steps

The run folder holds `config.json`, `last.pt` (the state to resume from), `best.safetensors` (the
best weights so far, a model file), `log.jsonl`, and in the end `<name>_x<scale>.safetensors`,
which `sharpreel upscale -m` runs. An interrupted run resumes where it was saved, and on a CPU it
ends with the same weights bit for bit: a batch depends on its number alone, and everything else
that has a state is in `last.pt`. SIGTERM saves before it ends the process.

On a CPU everything is float32 in channels_last, unless bf16 is requested: that is faster on
processors with bf16 instructions and slower on all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sharpreel.errors import TerminatedError, TrainingError, write_error
from sharpreel.evaluation.validation import Score, mean_gain
from sharpreel.models import MODELS
from sharpreel.models.weights import read_card
from sharpreel.system.files import atomic_write
from sharpreel.training.adversary import Adversary
from sharpreel.training.batches import Batch, BatchLoader, validate_shares
from sharpreel.training.checkpoint import (
    START,
    input_digests,
    read_checkpoint,
    save_checkpoint,
    validate_inputs,
)
from sharpreel.training.config import TrainConfig, config_text
from sharpreel.training.export import Hardware, model_card, save_model
from sharpreel.training.interrupt import sigterm_as_request
from sharpreel.training.losses.pixel import pixel_loss
from sharpreel.training.losses.temporal import flicker
from sharpreel.training.progress import Interval, TrainProgress
from sharpreel.training.setup import (
    TrainModule,
    build_optimizer,
    load_start,
    make_fabric,
    unwrap,
    update_learning_rate,
)
from sharpreel.training.similarity import BicubicBaseline, similarity
from sharpreel.training.trackers import NullTracker, Tracker, Validation
from sharpreel.training.validation import Validator, shortfall

if TYPE_CHECKING:
    from lightning_fabric import Fabric


SSIM_EVERY = 10  # steps

ProgressCallback = Callable[[TrainProgress], None]


class Trainer:
    """A training run: its mutable state, one optimisation step, and the loop around it.

    Args:
        train_clips: Pairs to train on; bursts (T, H, W, 3) for the task "bursts".
        val_clips: Pairs to validate on, not among them.
        run: The run folder.
        start_from: A checkpoint to start from (up-training), bundled, own or third-party.

    Attributes:
        module: The network under training, a `TrainModule` wrapped by Fabric.
        average: The averaged weights, by their names in the network.
        step: Steps done.
        best, start: PSNR in dB of the best weights, and of those that the run started from.
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
        config.validate()
        self.config, self.run = config, run
        self.tracker = tracker or NullTracker()
        self.fabric = fabric or make_fabric(config.precision)
        self.fabric.launch()
        validate_shares(config.stages, self.fabric.world_size)
        torch.manual_seed(config.seed)
        module = TrainModule(config)
        start = None if start_from is None else load_start(module.network, config, start_from)
        self.inputs = input_digests(config, train_clips, val_clips, start)
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = {k: v.detach().clone() for k, v in module.network.state_dict().items()}
        self.module: Any
        self.optimizer: Any
        optimizer = build_optimizer(config, module.network)
        self.module, self.optimizer = self.fabric.setup(module, optimizer)
        self.average = {k: v.to(self.fabric.device) for k, v in weights.items()}
        self.adversary = Adversary(config, self.fabric) if config.gan is not None else None
        self._pixel_loss = pixel_loss(config.loss)
        self._baseline = BicubicBaseline(config, module, self.fabric.device)
        self.validator = Validator(config, val_clips, self.fabric.device.type)
        self.loader = BatchLoader(
            config, train_clips, module, self.fabric.global_rank, self.fabric.world_size
        )
        self.step, self.best = 0, -math.inf
        self.start: float | None = None

    @property
    def _is_main(self) -> bool:
        """True in the process that validates and writes, the first one."""
        return bool(self.fabric.global_rank == 0)

    # One step

    def training_step(self, pairs: list[Batch]) -> dict[str, float]:
        """Train the generator, then the discriminator on the same frames.

        Returns:
            Each term of the generator's loss by name, their sum "loss", "psnr" and at every tenth
            step "ssim" of the batch, and the discriminator's loss "discriminator".

        Raises:
            TrainingError: The loss is NaN or infinite; the batch is saved in the run folder.
        """
        c = self.config
        adversary = self.adversary
        if c.gan is not None and self.step < c.gan.start:
            adversary = None
        update_learning_rate(self.optimizer, c, self.step)
        if adversary is not None:
            adversary.freeze()
        terms, outputs = self._backward(pairs, adversary)
        if c.clip_gradient:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=c.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if adversary is not None:
            terms["discriminator"] = adversary.training_step(outputs)
        self.step += 1
        self._update_average()
        return terms

    def _backward(
        self, pairs: list[Batch], adversary: Adversary | None
    ) -> tuple[dict[str, float], list[tuple[Tensor, Tensor]]]:
        """Accumulate the gradients of all batches; return mean terms and each batch's (sr, hr)."""
        means: dict[str, float] = {}
        outputs = []
        for number, (lr8, hr8) in enumerate(pairs, 1):
            lr, hr = (x.to(self.fabric.device).float() / 255 for x in (lr8, hr8))
            hr = hr if self.config.task == "bursts" else unwrap(self.module).target(hr)
            with self._no_sync(number < len(pairs)):
                sr = self.module(lr)
                loss, terms = self._generator_loss(sr, hr, adversary)
                self._require_finite(loss, lr8, hr8)
                self.fabric.backward(loss / len(pairs))
            terms["loss"] = float(loss.detach())
            terms |= similarity(sr.detach(), hr, with_ssim=self.step % SSIM_EVERY == 0)
            for name, value in terms.items():
                means[name] = means.get(name, 0.0) + value / len(pairs)
            outputs.append((sr.detach(), hr))
        return means, outputs

    def _generator_loss(
        self, sr: Tensor, hr: Tensor, adversary: Adversary | None
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss, and its terms by name if it has several."""
        if adversary is not None:
            return adversary.generator_loss(sr, hr)
        image, weight = self._pixel_loss(sr, hr), self.config.flicker
        if not weight or sr.shape[1] < 2:
            return image, {}
        change = flicker(sr, hr)
        terms = {"image": float(image.detach()), "flicker": float(change.detach())}
        return image + weight * change, terms

    def _no_sync(self, more_to_come: bool) -> AbstractContextManager[Any]:
        """Do not share gradients between processes before the last of the accumulated batches."""
        if not more_to_come or self.fabric.world_size == 1:
            return nullcontext()
        context: AbstractContextManager[Any] = self.fabric.no_backward_sync(self.module)
        return context

    def _require_finite(self, loss: Tensor, lr: Tensor, hr: Tensor) -> None:
        value = float(loss.detach())
        if math.isfinite(value):
            return
        path = self.run / f"nan-step-{self.step}.npz"
        try:
            np.savez_compressed(path, lr=lr.numpy(), hr=hr.numpy())
        except OSError as e:
            raise write_error(path, e) from e
        raise TrainingError(
            f"The loss is {value} at step {self.step}; the batch is saved as {path}, and "
            f"{self.run / 'last.pt'} is the state before. Lower learning_rate, or set "
            "clip_gradient."
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 10)) if self.config.ema else 0.0
        for name, value in unwrap(self.module).network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    # State

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        state: dict[str, Any] = {
            "config": config_text(self.config),
            "begun": self.inputs,
            "step": self.step,
            "best": self.best,
            "start": self.start,
            "model": unwrap(self.module).network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["rng_cuda"] = torch.cuda.get_rng_state_all()
        if self.adversary is not None:
            state |= self.adversary.state()
        if self._scaler is not None:
            state["scaler"] = self._scaler.state_dict()
        return state

    @property
    def _scaler(self) -> Any:
        """The scaler that keeps fp16 gradients from vanishing; None in other precisions."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def save(self) -> None:
        """Write `last.pt`; an error leaves the previous one intact."""
        if self._is_main:
            save_checkpoint(self.run / "last.pt", self.state())

    def load(self) -> bool:
        """Resume from `last.pt`; False when there is none.

        Raises:
            UsageError: The run was started with other settings, clips or starting weights.
            InputError: `last.pt` is damaged.
        """
        last = self.run / "last.pt"
        if not last.is_file():
            return False
        saved = read_checkpoint(last, self.config, self.fabric.device)
        before = saved.get("begun")
        validate_inputs(self.run, before, self.inputs)
        self.inputs = before or self.inputs
        unwrap(self.module).network.load_state_dict(saved["model"])
        self.average, self.step, self.best = saved["average"], saved["step"], saved["best"]
        self.start = saved.get("start")
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.adversary is not None:
            self.adversary.load_state(saved)
        if self._scaler is not None and "scaler" in saved:
            self._scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"].cpu())
        if "rng_cuda" in saved and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["rng_cuda"]])
        return True

    def network(self) -> nn.Module:
        """Return the network with the averaged weights, on the CPU."""
        network = MODELS[self.config.model].build(self.config.arguments)
        network.load_state_dict({k: v.cpu() for k, v in self.average.items()})
        return network.eval()

    # The loop

    def fit(self, on_progress: ProgressCallback | None = None) -> None:
        """Train to the last step, from the start or from where the run was saved.

        Args:
            on_progress: Called at each save, before it, in every process.

        Raises:
            TerminatedError: SIGTERM arrived; the state is saved.
            TrainingError: See `training_step`.
        """
        report = on_progress or (lambda progress: None)
        self._open_run()
        self.tracker.begin(self.config, self.step)
        if self.step == 0 and self.validator.clips and self._is_main:
            self._validate(Interval(0).progress(0, self.config.steps), report)
        with sigterm_as_request() as requested, closing(self.loader.batches(self.step)) as batches:
            interval = Interval(self.step)
            while self.step < self.config.steps:
                with interval.waiting():
                    pairs = next(batches)
                interval.add(self._logged_step(pairs))
                stop = self._any_process(requested())
                if self.step % self.config.save_every == 0 or self._is_done or stop:
                    self._report(interval, report)
                    self.save()
                    self.fabric.barrier()
                    interval = Interval(self.step)
                if stop and not self._is_done:
                    raise TerminatedError(
                        f"terminated at step {self.step}; saved. Run the same command again to "
                        "resume."
                    )

    def _open_run(self) -> None:
        """Resume, or make the run folder; nothing is written before a run that is refused."""
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            resumed = self.load()
            if self._is_main:
                atomic_write(self.run / "config.json", config_text(self.config))
                if not resumed:
                    (self.run / "best.safetensors").unlink(missing_ok=True)
        except OSError as e:
            raise write_error(self.run / "config.json", e) from e

    @property
    def _is_done(self) -> bool:
        return self.step == self.config.steps

    def _logged_step(self, pairs: list[Batch]) -> dict[str, float]:
        """Train one step and log its terms; at every tenth step also bicubic's."""
        if self.step == self.config.gan_start:
            self.best = -math.inf
        terms = self.training_step(pairs)
        if (self.step - 1) % SSIM_EVERY == 0:
            terms |= self._baseline.measure(pairs)
        self.tracker.step(self.step, terms)
        return terms

    def _any_process(self, requested: bool) -> bool:
        """Return whether any process was requested to stop: all must stop at the same step."""
        if self.fabric.world_size == 1:
            return requested
        flag = torch.tensor(float(requested), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))

    def _report(self, interval: Interval, report: ProgressCallback) -> None:
        """Report the steps since the last save, after a validation where one is due."""
        progress = interval.progress(self.step, self.config.steps)
        every = self.config.validate_every
        due = self._is_done or (every and self.step % every == 0)
        if not (self.validator.clips and due):
            report(progress)
            self.tracker.progress(progress)
        elif self._is_main:
            self._validate(progress, report)

    def _validate(self, progress: TrainProgress, report: ProgressCallback) -> None:
        """Score the averaged weights, keep them if they are the best so far, and report."""
        count = len(self.validator.clips)
        scores = self.validator.score(
            self.network(),
            lambda number, score: self.tracker.scored(self.step, number, count, score),
        )
        progress.psnr = float(np.mean([s.psnr for s in scores]))
        progress.gain_db = mean_gain(scores)
        candidate = True
        if self.step == 0:
            self.start = progress.psnr
            # Untrained weights are no candidate. Neither are those that a GAN starts from: they
            # score higher than all that follow.
            candidate = self.inputs[START] is not None and self.config.gan_start != 0
        best = self.run / "best.safetensors"
        if candidate and progress.psnr > self.best:
            self.best = progress.psnr
            save_model(best, self._tensors(), self._card(scores))
        if self._is_done:
            progress.note = shortfall(self.config, self.best, self.start, scores)
        report(progress)
        self.tracker.progress(progress)
        image = self.validator.image(self.network())
        self.tracker.validated(Validation(self.step, image, best if best.is_file() else None))

    # The model file

    def finish(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Write the model file: the best weights validated, or the last average.

        Of several processes the first one writes, and the others wait.

        Args:
            extra: More fields for its card.
        """
        path = self.run / f"{self.config.name}_x{self.config.scale}.safetensors"
        if self._is_main:
            tensors, card = self._final()
            save_model(path, tensors, card | dict(extra or {}))
            self.tracker.finished(path, card)
        self.fabric.barrier()
        return path

    def _final(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        best = self.run / "best.safetensors"
        if not best.is_file():
            return self._tensors(), self._card([])
        import safetensors.torch

        return safetensors.torch.load_file(best), read_card(best)

    def _tensors(self) -> dict[str, Tensor]:
        return {k: v.cpu() for k, v in self.average.items()}

    def _card(self, scores: list[Score]) -> dict[str, Any]:
        parameters = sum(p.numel() for p in unwrap(self.module).network.parameters())
        hardware = Hardware(self.fabric.device.type, self.fabric.world_size)
        return model_card(self.config, parameters, self.step, hardware, scores)


def train(
    config: TrainConfig,
    train_clips: Sequence[Any],
    val_clips: Sequence[Any],
    run: Path,
    *,
    fabric: Fabric | None = None,
    tracker: Tracker | None = None,
    start_from: str | None = None,
    on_progress: ProgressCallback | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Train to the end of `config.steps`; an interrupted run in `run` is resumed.

    `run.train_from_folder` does the same from a folder of videos.

    Args:
        train_clips, val_clips: Of `ClipStore.pairs` or `load_clips`; bursts (T, H, W, 3)
            for the task "bursts".
        on_progress: Called at each save.
        extra: More fields for the card of the model file, such as facts about the data.

    Returns:
        The model file.

    Raises:
        UsageError: The settings do not fit together, or the run was started with other inputs.
        TerminatedError: SIGTERM arrived; the state is saved.
        TrainingError: The loss is NaN or infinite.
    """
    trainer = Trainer(config, train_clips, val_clips, run, fabric, tracker, start_from)
    trainer.fit(on_progress)
    return trainer.finish(extra)
