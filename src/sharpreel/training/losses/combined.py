"""The loss of iSeeBetter's generator: image, perceptual, adversarial and total variation terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sharpreel.training.losses.adversarial import Adversarial
from sharpreel.training.losses.arguments import frame_pair
from sharpreel.training.losses.pixel import PixelLoss, mse, total_variation


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of `CombinedLoss`, as in iSeeBetter; weight 0 skips a term."""

    image: float = 1.0
    perceptual: float = 6e-3
    adversarial: float = 1e-3
    total_variation: float = 2e-8


class CombinedLoss(nn.Module):
    """Weighted sum of four losses: iSeeBetter's generator loss, `--APITLoss` there.

    total = image * MSE + perceptual * features + adversarial * G + total_variation * TV

    Args:
        perceptual: (sr, hr) -> scalar: a `Perceptual`, or `feature_matching_loss(discriminator)`.
            None when its weight is 0.
        adversarial: The adversarial term.
        weights: Of the four terms.
        image: (sr, hr) -> scalar; the AFM fork of iSeeBetter uses `l1`, an adversarial weight of
            0.005 and no other term.
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
                "or feature_matching_loss(discriminator)."
            )
        self.perceptual = perceptual
        self.adversarial = adversarial or Adversarial()
        self.image = image
        self.form = form

    def forward(
        self, sr: Tensor, hr: Tensor, fake: Tensor, real: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise and its terms by name.

        Args:
            sr, hr: Clips or frames of one shape.
            fake, real: The discriminator's scores of them; `real` is needed by "relativistic" only.

        Returns:
            A scalar, and the terms "image", "perceptual", "adversarial" and "total_variation"
            before weighting, without graph; 0 where the weight is 0.
        """
        sr, hr = frame_pair(sr, hr)
        zero = sr.new_zeros(())
        weights = self.weights
        image = self.image(sr, hr) if weights.image else zero
        features = zero
        if self.perceptual is not None and weights.perceptual:
            features = self.perceptual(sr, hr)
        adversarial = self.adversarial.generator(fake, real) if weights.adversarial else zero
        variation = total_variation(sr, self.form) if weights.total_variation else zero
        total = (
            weights.image * image
            + weights.perceptual * features
            + weights.adversarial * adversarial
            + weights.total_variation * variation
        )
        terms = {
            "image": image,
            "perceptual": features,
            "adversarial": adversarial,
            "total_variation": variation,
        }
        return total, {name: term.detach() for name, term in terms.items()}
