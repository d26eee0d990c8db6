"""Mix two model files of one network: share * SECOND + (1 - share) * FIRST, tensor by tensor.

    python examples/interpolate.py FIRST SECOND SHARE OUT

This moves a network trained for texture back towards the one it started from, as ESRGAN does
(Wang et al., ECCV Workshops 2018, "network interpolation"). The bundled reel-gan is 0.7 of what its
recipe gives and 0.3 of reel: unmixed, it drifts on a scene that is static for minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import safetensors.torch

from sharpreel.models import weights
from sharpreel.models.weights import read_card


def main() -> None:
    first, second, out = (Path(sys.argv[k]) for k in (1, 2, 4))
    share = float(sys.argv[3])
    a, b = (safetensors.torch.load_file(path) for path in (first, second))
    mixed = {name: (1 - share) * a[name] + share * b[name] for name in b}
    card = read_card(second)
    card["mixed"] = f"{share:g} of this training run and {1 - share:g} of what it started from"
    weights.save_weights(out, mixed, card)
    print(f"{out}: {card['mixed']}")


if __name__ == "__main__":
    main()
