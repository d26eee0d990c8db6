"""The adversarial side of a GAN run: the discriminator, its optimiser and both losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sharpreel.errors import UsageError
from sharpreel.training.config import TrainConfig
from sharpreel.training.losses.adversarial import Adversarial
from sharpreel.training.losses.combined import CombinedLoss, LossWeights
from sharpreel.training.losses.feature_matching import feature_matching_loss
from sharpreel.training.losses.perceptual import Perceptual
from sharpreel.training.losses.pixel import PixelLoss, pixel_loss
from sharpreel.training.setup import unwrap

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class DiscriminatorModule(nn.Module):
    """A discriminator for clips: it scores each frame on its own.

    Args:
        kind: As `GanConfig.discriminator`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        from sharpreel.models import srgan

        kinds = {
            "iseebetter": srgan.Discriminator,
            "fast": srgan.FastDiscriminator,
            "patch": srgan.PatchDiscriminator,
        }
        self.network = kinds[kind]()
        self.logits = kind == "fast"

    def forward(self, clip: Tensor) -> Tensor:
        scores: Tensor = self.network(clip.flatten(0, 1))
        return scores


class Adversary:
    """The discriminator under training, and the loss that the generator minimises against it.

    Raises:
        UsageError: The perceptual term needs a file of VGG weights.
    """

    def __init__(self, config: TrainConfig, fabric: Fabric) -> None:
        assert config.gan is not None
        discriminator = DiscriminatorModule(config.gan.discriminator).to(fabric.device)
        self._fabric = fabric
        self.loss = combined_loss(config, discriminator, fabric.device)
        optimizer = torch.optim.Adam(discriminator.parameters(), lr=config.gan.learning_rate)
        self.discriminator: Any
        self.optimizer: Any
        self.discriminator, self.optimizer = fabric.setup(discriminator, optimizer)

    def freeze(self) -> None:
        """Compute no gradients of the discriminator during the generator's step."""
        self.discriminator.requires_grad_(False)

    def generator_loss(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the generator, and its terms by name."""
        discriminator = unwrap(self.discriminator)  # frozen, so there are no gradients to share
        fake = discriminator(sr)
        real = discriminator(hr) if discriminator.logits else None
        loss, terms = self.loss(sr, hr, fake, real)
        return loss, {name: float(term) for name, term in terms.items()}

    def training_step(self, outputs: list[tuple[Tensor, Tensor]]) -> float:
        """Train the discriminator on the (sr, hr) of the generator's step; return its loss."""
        self.discriminator.requires_grad_(True)
        total = 0.0
        for sr, hr in outputs:
            fake, real = self.discriminator(sr), self.discriminator(hr)
            loss = self.loss.adversarial.discriminator(fake, real)
            self._fabric.backward(loss / len(outputs))
            total += float(loss.detach()) / len(outputs)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def state(self) -> dict[str, Any]:
        """Return the state to save; the keys are those of `last.pt`."""
        return {
            "judge": unwrap(self.discriminator).state_dict(),
            "judge_optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        unwrap(self.discriminator).load_state_dict(saved["judge"])
        self.optimizer.load_state_dict(saved["judge_optimizer"])


def combined_loss(
    config: TrainConfig, discriminator: DiscriminatorModule, device: torch.device
) -> CombinedLoss:
    """The generator's loss against a discriminator."""
    gan = config.gan
    assert gan is not None
    perceptual: PixelLoss | None = None
    if gan.perceptual and gan.features == "discriminator":
        perceptual = feature_matching_loss(discriminator.network)
    elif gan.perceptual:
        try:
            perceptual = Perceptual(
                gan.features, gan.vgg_file or None, normalise=gan.normalise, divisor=gan.divisor
            ).to(device)
        except UsageError as e:
            raise UsageError(
                f"{e} In a recipe, set gan.vgg_file=FILE, or gan.features=discriminator to "
                "compare the discriminator's own features instead."
            ) from e
    return CombinedLoss(
        perceptual,
        Adversarial(gan.game, logits=discriminator.logits),
        weights=LossWeights(gan.image, gan.perceptual, gan.adversarial, gan.total_variation),
        image=pixel_loss(config.loss),
    )
