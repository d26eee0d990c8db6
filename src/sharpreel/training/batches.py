"""Batches of crops for training: what a batch contains depends on its number and the seed alone.

Therefore a resumed run continues with the batches that an uninterrupted run would have seen, and
batches can be prepared in a background thread.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from sharpreel.data.sampling import check_clips, sample_batch, sample_bursts
from sharpreel.data.store import Frames
from sharpreel.errors import UsageError
from sharpreel.system.prefetch import prefetch
from sharpreel.training.config import Stage, TrainConfig
from sharpreel.training.setup import TrainModule

AHEAD = 3  # batches that are prepared before they are needed

Batch = tuple[Tensor, Tensor]  # lr and hr, uint8


class BatchLoader:
    """Draws the batches of a run.

    Args:
        clips: Pairs to train on; bursts (T, H, W, 3) for the task "bursts".
        module: The network, for the number of frames that it needs.
        rank, processes: This process, which draws its share of each batch.

    Raises:
        UsageError: No clip is large enough, or a batch cannot be shared evenly.
    """

    def __init__(
        self,
        config: TrainConfig,
        clips: Sequence[Any],
        module: TrainModule,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        validate_shares(config.stages, processes)
        self._config = config
        self._part = (rank, processes)
        self._clip_lens = {stage: module.clip_len(stage) for stage in config.stages}
        self._clips: Sequence[Any] = (
            _usable_bursts(clips, config.patch)
            if config.task == "bursts"
            else check_clips(clips, config.patch)
        )

    def load_batch(self, step: int) -> list[tuple[Frames, Frames]]:
        """Return the (lr, hr) of a step for this process, one pair for each accumulated batch.

        Runs in a background thread, so it does not touch torch.
        """
        c, stage = self._config, self._config.stage(step)
        clip_len = self._clip_lens[stage]
        pairs = []
        for k in range(c.accumulate):
            number = step * c.accumulate + k
            shape = (stage.batch, clip_len, c.patch, c.seed, number, self._part)
            if c.task == "bursts":
                pairs.append(sample_bursts(self._clips, *shape))
            else:
                pairs.append(sample_batch(self._clips, c.scale, *shape))
        return pairs

    def batch(self, step: int) -> list[Batch]:
        """`load_batch` as tensors."""
        return _as_tensors(self.load_batch(step))

    def batches(self, first: int) -> Generator[list[Batch]]:
        """Yield the batches from step `first` to the last one, prepared in a background thread."""
        steps = range(first, self._config.steps)
        with closing(prefetch((self.load_batch(step) for step in steps), AHEAD)) as loaded:
            for pairs in loaded:
                yield _as_tensors(pairs)


def validate_shares(stages: Sequence[Stage], processes: int) -> None:
    """Raise UsageError unless each process gets the same number of samples of each batch.

    Their gradients are averaged with equal weights.
    """
    for stage in stages:
        if stage.batch % processes:
            raise UsageError(
                f"stages: a batch of {stage.batch} cannot be shared evenly by {processes} "
                "processes. Choose a multiple, or fewer processes."
            )


def _usable_bursts(bursts: Sequence[Any], patch: int) -> list[Any]:
    usable = [b for b in bursts if min(b.shape[1:3]) >= patch and len(b) > 1]
    if not usable:
        raise UsageError(f"No burst has two scans or more as large as a patch of {patch}.")
    return usable


def _as_tensors(pairs: list[tuple[Frames, Frames]]) -> list[Batch]:
    return [(torch.from_numpy(lr), torch.from_numpy(hr)) for lr, hr in pairs]
