"""Loss functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sharpreel.training.losses.adversarial import Adversarial
from sharpreel.training.losses.pixel import PixelLoss, mse, pair, total_variation

# --- All together -------------------------------------------------------------------------------


@dataclass(frozen=True)
class LossWeights:
    """The weight of each term of `CombinedLoss`, as in iSeeBetter; weight 0 skips it."""

    image: float = 1.0
    perceptual: float = 6e-3
    adversarial: float = 1e-3
    total_variation: float = 2e-8


class CombinedLoss(nn.Module):
    """iSeeBetter's loss of the generator, `--APITLoss` there.

    total = image * MSE + perceptual * features + adversarial * game + total_variation * TV

    Args:
        perceptual: (sr, hr) -> scalar: a `Perceptual`, or `matching(discriminator)`. None when its
            weight is 0.
        adversarial: The game.
        weights: Of the four.
        image: (sr, hr) -> scalar; the AFM fork of iSeeBetter takes `l1` with a game of 0.005 and
            nothing else.
        form: Of `total_variation`.
    """

    def __init__(
        self,
        perceptual: PixelLoss | None,
        adversarial: Adversarial | None = None,
        *,
        weights: LossWeights | None = None,
        image: PixelLoss = mse,
        form: Literal["squared", "absolute"] = "squared",
    ) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        if perceptual is None and self.weights.perceptual:
            raise ValueError(
                "perceptual must be a function of (sr, hr) when its weight is not 0: a Perceptual, "
                "or matching(discriminator)."
            )
        self.perceptual = perceptual
        self.adversarial = adversarial or Adversarial()
        self.image = image
        self.form = form

    def forward(
        self, sr: Tensor, hr: Tensor, fake: Tensor, real: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to minimise, and what it is made of.

        Args:
            sr, hr: Clips or pictures of one shape.
            fake, real: The discriminator's scores of them; `real` for the relativistic game only.

        Returns:
            A scalar, and the terms "image", "perceptual", "adversarial" and "total_variation"
            before weighting, without graph; 0 where the weight is 0.
        """
        sr, hr = pair(sr, hr)
        zero = sr.new_zeros(())
        weights = self.weights
        image = self.image(sr, hr) if weights.image else zero
        seen = zero
        if self.perceptual is not None and weights.perceptual:
            seen = self.perceptual(sr, hr)
        game = self.adversarial.generator(fake, real) if weights.adversarial else zero
        variation = total_variation(sr, self.form) if weights.total_variation else zero
        total = (
            weights.image * image
            + weights.perceptual * seen
            + weights.adversarial * game
            + weights.total_variation * variation
        )
        terms = {
            "image": image,
            "perceptual": seen,
            "adversarial": game,
            "total_variation": variation,
        }
        return total, {name: term.detach() for name, term in terms.items()}
