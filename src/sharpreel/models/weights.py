"""From a name or a path to a network that an engine can run.

A bundled network is two things side by side in `bundled/`: `<name>_x<scale>.safetensors`, the
trained numbers with a header that tells their story, and `<name>_x<scale>.xml` + `.bin`, the
OpenVINO graph built from them by `sharpreel export`, which runs without torch. Nothing unpickles.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel.errors import MissingExtra, UsageError, WeightsError, did_you_mean
from sharpreel.models import DEFAULT_MODEL, MODELS, ModelSpec
from sharpreel.models.openvino_graph import bicubic_graph, reel_graph
from sharpreel.models.pretrained import PUBLISHED
from sharpreel.system import download
from sharpreel.system.download import sha256_of

if TYPE_CHECKING:
    import openvino as ov
    from torch import nn


BUNDLED = Path(__file__).parent / "bundled"
FORMAT = "sharpreel-1"


@dataclass(frozen=True)
class Model:
    """A network that can be run: its row of the table, its factor, and where its numbers are.

    Attributes:
        name: As the user gave it, or the file's stem.
        card: The header of the weights: arguments, data, steps, quality, licence.
        graph: The saved OpenVINO graph, None when there is none.
        tensors: The safetensors file, None for a network without parameters.
        sha256: Of the graph's or the tensors' bytes; names the network in journals.
        state: The tensors under the module's names, when the file has them under others.
        int8: The graph in eight-bit integers, None when there is none (see `quantize.py`).
    """

    name: str
    spec: ModelSpec
    scale: float
    card: Mapping[str, Any]
    graph: Path | None
    tensors: Path | None
    sha256: str
    state: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    int8: Path | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        arguments = self.card.get("arguments")
        return dict(arguments) if arguments else {"scale": self.scale}

    @property
    def has_graph(self) -> bool:
        """Can OpenVINO run it: is there a saved graph, or one that is built without torch?"""
        return self.graph is not None or builds_graph(self)

    def digest(self, engine_name: str) -> str:
        """SHA-256 of the file that an engine runs: `sha256`, or the int8 graph's numbers."""
        if engine_name == "openvino-int8" and self.int8 is not None:
            return sha256_of(self.int8.with_suffix(".bin"))
        return self.sha256

    def module(self) -> nn.Module:
        """The torch network with its weights, in eval mode.

        Raises:
            MissingExtra: torch is not installed.
            WeightsError: The tensors do not fit the network.
        """
        try:
            import safetensors.torch
        except ImportError as e:
            raise MissingExtra(f"Running {self.name} as a torch network", "torch") from e
        module = self.spec.build(self.arguments)
        if self.tensors is not None:
            state = self.state or safetensors.torch.load_file(self.tensors)
            try:
                module.load_state_dict(state)
            except RuntimeError as e:
                first = str(e).strip().splitlines()[-1].strip()
                raise WeightsError(f"{self.tensors}: does not hold {self.name}: {first}") from e
        return module.eval()


def read_card(path: Path) -> dict[str, Any]:
    """The header of one of our safetensors files.

    Raises:
        WeightsError: Not a safetensors file, or not one of ours.
    """
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > 2**24:
                raise ValueError("its header is too long")
            header = json.loads(file.read(size))
        card = json.loads(header["__metadata__"]["sharpreel"])
    except (OSError, ValueError, KeyError, TypeError, struct.error) as e:
        raise WeightsError(
            f"{path}: not a model file of sharpreel (a .safetensors with its header)."
        ) from e
    if card.get("format") != FORMAT or card.get("model") not in MODELS:
        raise WeightsError(f"{path}: made for another sharpreel (model {card.get('model')!r}).")
    return dict(card)


def available_scales(name: str) -> tuple[int, ...]:
    """Factors a bundled network is really there for."""
    stems = {s: BUNDLED / f"{name}_x{s}" for s in MODELS[name].scales}
    return tuple(
        scale
        for scale, stem in stems.items()
        if any(stem.with_suffix(suffix).is_file() for suffix in (".xml", ".safetensors"))
    )


def load_model(
    name_or_path: str | Path = DEFAULT_MODEL,
    scale: float | None = None,
    *,
    choices: Mapping[str, Any] | None = None,
    offline: bool = False,
    tell: download.Tell | None = None,
) -> Model:
    """Find a network by its name in `MODELS` or `PUBLISHED`, or open a model file.

    A file is one of ours (.safetensors with a card), or a checkpoint of one of the networks in
    `MODELS` as others publish them (.pt, .pth, .ckpt, .safetensors): the network, its scale and its
    arguments are known from the names and shapes of the tensors, and nothing in it is run. A name
    of `PUBLISHED` is such a file, downloaded once to `cache_folder()` and checked each time.

    Args:
        scale: Factor; a bundled network defaults to its smallest, a file to its own.
        choices: Arguments of the network that no checkpoint tells, such as {"residual": True} for
            an RBPN; `ModelSpec.choices` lists them. Words are read as the command line reads them.
        offline: Download nothing; $SHARPREEL_OFFLINE means the same.
        tell: Called during a download with the bytes so far and in all.

    Raises:
        UsageError: No such model, or not at this scale, or no such choice.
        WeightsError: The file is not a model, or of a network we do not know.
        FetchError: The file cannot be downloaded, or is not the one that was published.
        MissingExtra: A checkpoint of others needs torch.
    """
    name = str(name_or_path)
    if scale is not None and not 0 < scale < math.inf:
        raise UsageError(f"{scale:g} is no factor to enlarge by; choose 2 or 4.")
    scale = None if scale is None else whole(scale)
    if name in MODELS:
        bundled = _bundled(name, min(MODELS[name].scales) if scale is None else scale)
        _refuse(choices, name)
        return bundled
    if name in PUBLISHED:
        row = PUBLISHED[name]
        path = download.cached(row.file, row.url, row.sha256, tell, offline)
        download.check(path, row.sha256, sha256_of(path))
        model = read_third_party(path, scale, choices)
        card = {**model.card, "licence": row.licence, "source": row.url, "data": row.trained}
        return replace(model, name=name, card=card)
    path = Path(name_or_path)
    if not path.exists():
        known = [*MODELS, *PUBLISHED]
        hint = did_you_mean(name, known, 0.6)  # it may as well be a path
        raise UsageError(
            f"No model or file is called {name}.{hint} Known models: {', '.join(MODELS)}; "
            "`sharpreel models` lists those to download, too."
        )
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; name a model file in it.")
    if not has_our_card(path):
        return read_third_party(path, scale, choices)
    card = read_card(path)
    _refuse(choices, str(path))
    if scale is not None and scale != card["arguments"]["scale"]:
        raise UsageError(f"{path} enlarges {card['arguments']['scale']} times, not {scale}.")
    graph = path.with_suffix(".xml")
    return Model(
        name=path.stem,
        spec=MODELS[card["model"]],
        scale=int(card["arguments"]["scale"]),
        card=card,
        graph=graph if graph.is_file() else None,
        tensors=path,
        sha256=sha256_of(path),
        int8=_int8_of(path),
    )


def has_our_card(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            return size < 2**24 and b'"sharpreel"' in file.read(size)
    except (OSError, struct.error):
        return False


def read_third_party(
    path: Path, scale: float | None, choices: Mapping[str, Any] | None = None
) -> Model:
    """A checkpoint that others made, recognised by its tensors."""
    try:
        import torch

        from sharpreel.models.checkpoints import read_content, unwrap
    except ImportError as e:
        raise MissingExtra(f"{path}: reading a checkpoint of others", "torch") from e
    what = "a model file of sharpreel, and no checkpoint of tensors alone (.pt, .pth, .safetensors)"
    tensors = unwrap(read_content(path, what))
    if not tensors:
        raise WeightsError(f"{path}: not a model file of sharpreel, and holds no tensors.")
    known = {name: spec for name, spec in MODELS.items() if spec.recognise is not None}
    for name, spec in known.items():
        assert spec.recognise is not None
        found = spec.recognise(tensors, path.name)
        if found is None:
            continue
        arguments, state = found
        arguments = arguments | read_choices(f"{path.name}, a {name}", spec, choices)
        if name == "tsrcnn":  # its tensors fit any factor
            arguments = {"scale": scale or 2, **arguments}
        with torch.device("meta"):
            module: Any = spec.build(arguments)
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        if shapes != {key: value.shape for key, value in state.items()}:
            asked = ", ".join(f"{key}={value}" for key, value in (choices or {}).items())
            raise UsageError(f"{path}: its tensors do not fit --set {asked}.")
        if scale is not None and scale != module.scale:
            raise UsageError(
                f"{path} is a {name} that enlarges {module.scale:g} times, not {scale}."
            )
        return Model(
            name=path.stem,
            spec=spec,
            scale=whole(module.scale),
            card={"model": name, "arguments": arguments},
            graph=None,
            tensors=path,
            sha256=sha256_of(path),
            state=state,
        )
    first = ", ".join(list(tensors)[:3])
    raise WeightsError(
        f"{path}: {len(tensors)} tensors ({first}, ...) that are none of the networks sharpreel "
        f"knows, or not all of one: {', '.join(known)}."
    )


def _int8_of(path: Path) -> Path | None:
    """`<name>_int8.xml` beside `<name>.xml` or `.safetensors`, where it is."""
    graph = path.with_name(f"{path.stem}_int8.xml")
    return graph if graph.is_file() else None


def _refuse(choices: Mapping[str, Any] | None, title: str) -> None:
    """Raise UsageError for choices where the network's card tells everything."""
    for key in choices or {}:
        raise UsageError(f"--set {key}: {title} has nothing that could be set.")


def read_choices(title: str, spec: ModelSpec, choices: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of a network from what the user set, words turned into what they mean.

    Raises:
        UsageError: There is no such choice, or it cannot be that.
    """
    read: dict[str, Any] = {}
    for key, given in (choices or {}).items():
        if key not in spec.choices:
            there = ", ".join(spec.choices) or "nothing"
            raise UsageError(f"--set {key}: not a choice of {title}; there is {there}.")
        kind, word = spec.choices[key], str(given).lower()
        if kind is bool and word in ("true", "yes", "1", "false", "no", "0"):
            read[key] = word in ("true", "yes", "1")
        elif kind is int and word.isdecimal():
            read[key] = int(word)
        elif isinstance(kind, tuple) and word in kind:
            read[key] = word
        else:
            words = ("a whole number",) if kind is int else ("true", "false")
            wanted = " or ".join(kind if isinstance(kind, tuple) else words)
            raise UsageError(f"--set {key}={given}: must be {wanted}.")
    return read


def whole(scale: float) -> float:
    """The factor as an int where it is one, so that it is written as 2 and not as 2.0."""
    return int(scale) if scale == int(scale) else scale


def describe(model: Model) -> str:
    """A network and its arguments in words."""
    row = next(name for name, spec in MODELS.items() if spec is model.spec)
    return f"a {row} with {model.arguments}"


def _to_download(name: str) -> str:
    names = [title for title, row in PUBLISHED.items() if row.model == name]
    return f", or one to download: {', '.join(names)}" if names else ""


def _bundled(name: str, scale: float) -> Model:
    spec = MODELS[name]
    if not spec.bundled:
        raise UsageError(
            f"{name} comes without weights: give a checkpoint of it instead, -m FILE "
            f"({spec.source}){_to_download(name)}."
        )
    if scale not in spec.scales:
        raise UsageError(
            f"{name} enlarges {' or '.join(map(str, spec.scales))} times, not {scale}."
        )
    stem = BUNDLED / f"{name}_x{scale}"
    tensors, graph = stem.with_suffix(".safetensors"), stem.with_suffix(".xml")
    has_graph, has_tensors = graph.is_file(), tensors.is_file()
    if not (has_graph or has_tensors):
        raise WeightsError(f"{tensors}: missing from this installation. Install sharpreel again.")
    return Model(
        name=name,
        spec=spec,
        scale=scale,
        card=read_card(tensors) if has_tensors else {},
        graph=graph if has_graph else None,
        tensors=tensors if has_tensors else None,
        sha256=sha256_of(graph.with_suffix(".bin") if has_graph else tensors),
        int8=_int8_of(graph),
    )


def save_weights(path: Path, tensors: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Write a model file: torch tensors, and the card as JSON in the header.

    The card must hold `model` (a key of MODELS) and `arguments`; `tensors_sha256` is added.
    """
    import safetensors.torch

    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    full = {"format": FORMAT, **card, "tensors_sha256": digest.hexdigest()}
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(contiguous, path, {"sharpreel": json.dumps(full, sort_keys=True)})
    path.chmod(0o644)  # safetensors writes for the owner alone


def export_graph(model: Model, folder: Path) -> Path:
    """Build the OpenVINO graph of a network, `.xml` and `.bin` in `folder`.

    It is named as the weights are, so that beside them it is found: `<name>_x<scale>` when bundled.
    What goes in and comes out is told by `models.graph.reel_graph`; of a network without state it
    is `frame` alone, and `sr` (1, 3, sH, sW). H and W are free.

    Raises:
        UsageError: The network has no such form.
        MissingExtra: torch is not installed, and the network is none of ours.
    """
    return save_graph(build_graph(model), graph_path(model, folder))


def save_graph(graph: ov.Model, path: Path) -> Path:
    """Write `.xml` and `.bin`; the folder is made."""
    import openvino as ov

    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(graph, path, compress_to_fp16=False)
    return path


def graph_path(model: Model, folder: Path) -> Path:
    """Where `export_graph` puts the graph of a network."""
    stem = f"{model.name}_x{model.scale}" if model.tensors is None else model.tensors.stem
    return folder / f"{stem}.xml"


def builds_graph(model: Model) -> bool:
    """Is the graph of a network built from its numbers alone, in a moment and without torch?"""
    bicubic, reel = (MODELS[name].build for name in ("bicubic", "reel"))
    return model.spec.build is bicubic or (model.spec.build is reel and model.tensors is not None)


def build_graph(model: Model) -> ov.Model:
    """The OpenVINO graph of a network, in float32; see `export_graph`."""
    import safetensors.numpy

    if model.spec.build is MODELS["bicubic"].build:
        return bicubic_graph(int(model.scale))
    if model.spec.build is MODELS["reel"].build and model.tensors is not None:
        tensors = safetensors.numpy.load_file(model.tensors)
        unshuffle = int(model.arguments.get("unshuffle", 2))
        return reel_graph(tensors, int(model.scale), unshuffle)
    if model.spec.recurrent is not None:
        raise UsageError(f"{model.name} has no form that OpenVINO runs; use --engine torch.")
    return _converted(model)


def _converted(model: Model) -> ov.Model:
    """The graph of an image network, by OpenVINO's own converter."""
    import openvino as ov

    try:
        import torch
    except ImportError as e:
        raise MissingExtra("Building a graph", "torch") from e
    module = model.module()

    class Single(torch.nn.Module):
        """A clip network that takes a single frame (1, H, W, 3)."""

        def __init__(self) -> None:
            super().__init__()
            self.clip = module

        def forward(self, frame: torch.Tensor) -> torch.Tensor:
            sr: torch.Tensor = self.clip(frame.permute(0, 3, 1, 2)[:, None])
            return sr[:, 0]

    with warnings.catch_warnings():
        # OpenVINO's converter still traces with torch.jit, which torch deprecates.
        warnings.simplefilter("ignore")
        graph = ov.convert_model(Single().eval(), example_input=torch.zeros(1, 32, 48, 3))
    graph.inputs[0].set_names({"frame"})
    graph.outputs[0].set_names({"sr"})
    graph.reshape({"frame": ov.PartialShape([1, -1, -1, 3])})
    return graph
