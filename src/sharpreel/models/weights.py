"""Model files: `load_model` turns a name or a path into a network that an engine can run.

A bundled network consists of two things in `bundled/`: `<name>_x<scale>.safetensors`, the weights
with a header that documents them (the card), and `<name>_x<scale>.xml` + `.bin`, the OpenVINO graph
built from them by `sharpreel export`, which runs without PyTorch. No code in a file is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel.errors import MissingExtra, UsageError, WeightsError, did_you_mean
from sharpreel.models import DEFAULT_MODEL, MODELS, ModelSpec
from sharpreel.models.pretrained import PUBLISHED
from sharpreel.system import download
from sharpreel.system.download import sha256_of

if TYPE_CHECKING:
    from torch import nn


BUNDLED = Path(__file__).parent / "bundled"
FORMAT = "sharpreel-1"


@dataclass(frozen=True)
class Model:
    """A network that can be run: its row of `MODELS`, its scale, and where its weights are.

    Attributes:
        name: As the user gave it, or the file's stem.
        card: The header of the weights: arguments, data, steps, quality, licence.
        graph: The saved OpenVINO graph, None when there is none.
        tensors: The safetensors file, None for a network without parameters.
        sha256: Of the graph's or the tensors' bytes; identifies the network in journals.
        state: The tensors under the module's names, when the file has other names.
        int8: The graph in 8-bit integers, None when there is none (see `training/quantize.py`).
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
        """Arguments of `ModelSpec.build`."""
        arguments = self.card.get("arguments")
        return dict(arguments) if arguments else {"scale": self.scale}

    @property
    def has_graph(self) -> bool:
        """Can OpenVINO run it: is there a saved graph, or one that is built without PyTorch?"""
        return self.graph is not None or self.builds_graph

    @property
    def builds_graph(self) -> bool:
        """Can its graph be built from its weights alone, in a moment and without PyTorch?"""
        has_weights = self.tensors is not None or not self.spec.trained
        return self.spec.graph is not None and has_weights

    def digest(self, precision: str) -> str:
        """SHA-256 of the file that an engine of this precision runs: the weights or int8 graph."""
        if precision == "int8" and self.int8 is not None:
            return sha256_of(self.int8.with_suffix(".bin"))
        return self.sha256

    def module(self) -> nn.Module:
        """The PyTorch module with its weights, in eval mode.

        Raises:
            MissingExtra: PyTorch is not installed.
            WeightsError: The tensors do not fit the network.
        """
        try:
            import safetensors.torch
        except ImportError as e:
            raise MissingExtra(f"Running {self.name} with PyTorch", "torch") from e
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
    """The card in the header of a model file that sharpreel wrote.

    Raises:
        WeightsError: Not a safetensors file, or not written by sharpreel.
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
        raise WeightsError(
            f"{path}: written by another version of sharpreel (model {card.get('model')!r})."
        )
    return dict(card)


def available_scales(name: str) -> tuple[int, ...]:
    """The scales for which the package contains a bundled network."""
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
    on_progress: download.ProgressCallback | None = None,
) -> Model:
    """Find a network by its name in `MODELS` or `PUBLISHED`, or open a model file.

    A file was written by sharpreel (.safetensors with a card), or is a third-party checkpoint of a
    network in `MODELS` (.pt, .pth, .ckpt, .safetensors): the network, its scale and its arguments
    are recognised by the names and shapes of the tensors, and no code in it is executed. A name of
    `PUBLISHED` is such a file, downloaded once to `cache_folder()` and verified each time.

    Args:
        scale: Output pixels per input pixel; default: a bundled network's smallest, a file's own.
        choices: Arguments of the network that cannot be inferred from a checkpoint, such as
            {"residual": True} for an RBPN; `ModelSpec.choices` lists them. Strings are parsed as on
            the command line.
        offline: Download nothing; $SHARPREEL_OFFLINE means the same.
        on_progress: Called during a download with the bytes so far and in total.

    Raises:
        UsageError: No such model, or not at this scale, or no such choice.
        WeightsError: The file is not a model, or of an unknown network.
        FetchError: The file cannot be downloaded, or its checksum does not match.
        MissingExtra: A third-party checkpoint requires PyTorch.
    """
    name = str(name_or_path)
    if scale is not None and not 0 < scale < math.inf:
        raise UsageError(f"scale={scale:g} is not a valid scale; choose 2 or 4.")
    scale = None if scale is None else as_int_if_whole(scale)
    if name in MODELS:
        bundled = _load_bundled(name, min(MODELS[name].scales) if scale is None else scale)
        _require_no_choices(choices, name)
        return bundled
    if name in PUBLISHED:
        row = PUBLISHED[name]
        path = download.cached(row.file, row.url, row.sha256, on_progress, offline)
        download.validate_checksum(path, row.sha256, sha256_of(path))
        model = read_third_party(path, scale, choices)
        card = {**model.card, "licence": row.licence, "source": row.url, "data": row.trained}
        return replace(model, name=name, card=card)
    path = Path(name_or_path)
    if not path.exists():
        hint = did_you_mean(name, [*MODELS, *PUBLISHED], 0.6)  # it may as well be a path
        raise UsageError(
            f"No model or file is called {name}.{hint} Known models: {', '.join(MODELS)}; "
            "`sharpreel models` lists those to download, too."
        )
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; name a model file in it.")
    if has_own_card(path):
        _require_no_choices(choices, str(path))
        return _load_own_file(path, scale)
    return read_third_party(path, scale, choices)


def _load_own_file(path: Path, scale: float | None) -> Model:
    """A model file that sharpreel wrote, with the graphs next to it."""
    card = read_card(path)
    if scale is not None and scale != card["arguments"]["scale"]:
        raise UsageError(f"{path} is a {card['arguments']['scale']}x model, not {scale}x.")
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


def has_own_card(path: Path) -> bool:
    """Was the file written by sharpreel, as its header says?"""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            return size < 2**24 and b'"sharpreel"' in file.read(size)
    except (OSError, struct.error):
        return False


def read_third_party(
    path: Path, scale: float | None, choices: Mapping[str, Any] | None = None
) -> Model:
    """Read a third-party checkpoint, recognised by its tensors; see `load_model`."""
    try:
        import torch

        from sharpreel.models.checkpoints import read_content, unwrap
    except ImportError as e:
        raise MissingExtra(f"{path}: reading a third-party checkpoint", "torch") from e
    what = "a model file of sharpreel or a checkpoint of tensors (.pt, .pth, .safetensors)"
    tensors = unwrap(read_content(path, what))
    if not tensors:
        raise WeightsError(f"{path}: not a model file of sharpreel, and holds no tensors.")
    known = {name: spec for name, spec in MODELS.items() if spec.recognise is not None}
    for name, spec in known.items():
        assert spec.recognise is not None
        recognised = spec.recognise(tensors, path.name)
        if recognised is None:
            continue
        arguments, state = recognised
        arguments = arguments | read_choices(f"{path.name}, a {name}", spec, choices)
        if spec.any_scale:
            arguments = {"scale": scale or 2, **arguments}
        with torch.device("meta"):
            module: Any = spec.build(arguments)
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        if shapes != {key: value.shape for key, value in state.items()}:
            given = ", ".join(f"{key}={value}" for key, value in (choices or {}).items())
            raise UsageError(f"{path}: its tensors do not fit choices={given}.")
        if scale is not None and scale != module.scale:
            raise UsageError(f"{path} is a {module.scale:g}x {name}, not {scale}x.")
        return Model(
            name=path.stem,
            spec=spec,
            scale=as_int_if_whole(module.scale),
            card={"model": name, "arguments": arguments},
            graph=None,
            tensors=path,
            sha256=sha256_of(path),
            state=state,
        )
    first = ", ".join(list(tensors)[:3])
    raise WeightsError(
        f"{path}: its {len(tensors)} tensors ({first}, ...) are not those of a network that "
        f"sharpreel knows, or not all of them: {', '.join(known)}."
    )


def _int8_of(path: Path) -> Path | None:
    """`<name>_int8.xml` next to `<name>.xml` or `.safetensors`, if it exists."""
    graph = path.with_name(f"{path.stem}_int8.xml")
    return graph if graph.is_file() else None


def _require_no_choices(choices: Mapping[str, Any] | None, title: str) -> None:
    """Raise UsageError for choices of a network whose card holds all arguments."""
    for key in choices or {}:
        raise UsageError(f"choices={key}: {title} has no configurable arguments.")


def read_choices(title: str, spec: ModelSpec, choices: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of a network from the user's choices, with strings parsed to their types.

    Raises:
        UsageError: There is no such choice, or the value is not allowed.
    """
    arguments: dict[str, Any] = {}
    for key, given in (choices or {}).items():
        if key not in spec.choices:
            names = ", ".join(spec.choices) or "none"
            raise UsageError(f"choices={key}: not a choice of {title}; its choices are {names}.")
        kind, text = spec.choices[key], str(given).lower()
        if kind is bool and text in ("true", "yes", "1", "false", "no", "0"):
            arguments[key] = text in ("true", "yes", "1")
        elif kind is int and text.isdecimal():
            arguments[key] = int(text)
        elif isinstance(kind, tuple) and text in kind:
            arguments[key] = text
        else:
            values = ("a whole number",) if kind is int else ("true", "false")
            allowed = " or ".join(kind if isinstance(kind, tuple) else values)
            raise UsageError(f"choices={key}={given}: must be {allowed}.")
    return arguments


def as_int_if_whole(scale: float) -> float:
    """The scale as an int if it is whole, so that it is written as 2 and not as 2.0."""
    return int(scale) if scale == int(scale) else scale


def describe(model: Model) -> str:
    """A network and its arguments as text, such as "a reel with {'scale': 2}"."""
    row = next(name for name, spec in MODELS.items() if spec is model.spec)
    return f"a {row} with {model.arguments}"


def _downloadable(name: str) -> str:
    names = [title for title, row in PUBLISHED.items() if row.model == name]
    return f", or one to download: {', '.join(names)}" if names else ""


def _load_bundled(name: str, scale: float) -> Model:
    spec = MODELS[name]
    if not spec.bundled:
        raise UsageError(
            f"{name} is not bundled: give a checkpoint file of it as `model` instead "
            f"({spec.source}){_downloadable(name)}."
        )
    if scale not in spec.scales:
        raise UsageError(
            f"scale={scale}: {name} exists for {' and '.join(f'{s}x' for s in spec.scales)}."
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
    """Write a model file: PyTorch tensors, and the card as JSON in the header.

    The card must hold `model` (a key of MODELS) and `arguments`; `tensors_sha256` is added.
    """
    import safetensors.torch

    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    full = {"format": FORMAT, **card, "tensors_sha256": digest.hexdigest()}
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(contiguous, path, {"sharpreel": json.dumps(full, sort_keys=True)})
    path.chmod(0o644)  # safetensors writes files that only their owner can read
