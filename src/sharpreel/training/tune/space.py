"""Search spaces: which settings of a recipe are searched, and which values each may have.

A space is read from JSON or TOML (`Space`), checked on its recipe, and turned into Optuna's
distributions.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from sharpreel.errors import InputError, MissingExtra, UsageError
from sharpreel.training import recipes
from sharpreel.training.config import TrainConfig
from sharpreel.training.setup import build_network

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


NOT_SEARCHED = {
    **dict.fromkeys(("scale", "arguments.scale", "degradation", "task"), "which clips are used"),
    **dict.fromkeys(
        ("validate_frames", "validate_patch", "validate_every", "save_every"),
        "how and when a trial is scored",
    ),
    "name": "the name of the model file",
}


@dataclass(frozen=True)
class Dimension:
    """The values of one setting: a range of numbers, both ends included, or a list of choices.

    Attributes:
        choices: Text, numbers, true, false or None; lists and tables as JSON text, which
            `recipes.configure` parses.
    """

    kind: Literal["float", "int", "choice"]
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[str | int | float | bool | None, ...] = ()

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution of these values."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.choices)
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return distributions.IntDistribution(low, high, log=self.log, step=step)
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def samples(self) -> list[Any]:
        """Return values to check a setting with: all choices, or the ends and one between."""
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int":
            return [int(self.low), int(self.high)]
        return [self.low, self.high, self.low + 0.382 * (self.high - self.low)]


@dataclass(frozen=True)
class Space:
    """The settings of a recipe that are searched, and the values of each.

        {"learning_rate":      {"type": "float", "low": 1e-4, "high": 3e-3, "log": true},
         "arguments.channels": {"type": "int", "low": 16, "high": 48, "step": 8},
         "loss":               {"choices": ["charbonnier", "l1"]}}

    In TOML the same: `learning_rate = {type = "float", low = 1e-4, high = 3e-3, log = true}`;
    [arguments] and [gan] may be tables.
    """

    dimensions: Mapping[str, Dimension]
    source: str = "space"

    @classmethod
    def read(cls, path: Path) -> Space:
        """Read a space from a .json or .toml file.

        Raises:
            InputError: The file cannot be read, or is not JSON or TOML.
            UsageError: The content is not a space; see `of`.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "not text"
            raise InputError(f"{path}: cannot be read ({why}).") from e
        kinds: dict[str, Callable[[str], Any]] = {
            ".json": lambda text: json.loads(text, object_pairs_hook=_unique_keys),
            ".toml": tomllib.loads,
        }
        kind = path.suffix.lower()
        if kind not in kinds:
            raise UsageError(f"{path}: a search space is a .json or a .toml file.")
        try:
            content = kinds[kind](text)
        except ValueError as e:
            raise InputError(f"{path}: not {kind[1:].upper()}: {e}.") from e
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Any, source: str = "space") -> Space:
        """Convert the content of such a file to a space.

        Raises:
            UsageError: One line: the file, the setting, and what was expected.
        """
        if not isinstance(content, Mapping) or not content:
            raise UsageError(f"{source}: expected settings by name, each with its values.")
        dimensions: dict[str, Dimension] = {}
        for name, spec in _flat(content):
            if name in dimensions:
                raise UsageError(f"{source}: {name}: given twice.")
            if name in NOT_SEARCHED:
                why = NOT_SEARCHED[name]
                raise UsageError(f"{source}: {name}: cannot be searched; it decides {why}.")
            try:
                dimensions[name] = _dimension(spec)
            except ValueError as e:
                raise UsageError(f"{source}: {name}: {e}") from e
        for name in dimensions:
            whole = name.split(".")[0]
            if whole != name and whole in dimensions:
                raise UsageError(f"{source}: {name}: {whole} is already part of the search space.")
        return cls(dimensions, source)

    def validate(
        self, recipe: str, settings: Mapping[str, Any] | None = None, scale: int | None = None
    ) -> None:
        """Try each end and each choice on the recipe, before anything is trained.

        A value that does not fit the recipe's other settings is tried with others of the space.

        Raises:
            UsageError: No such setting, or a value that it cannot have.
        """
        fixed = dict(settings or {})
        draw = random.Random(0)
        for name, dimension in self.dimensions.items():
            if name in fixed:
                raise UsageError(
                    f"{self.source}: {name}: is both set to {fixed[name]} and searched; choose one."
                )
            for value in dimension.samples():
                try:
                    build(recipe, {**fixed, name: value}, scale)
                except MissingExtra:
                    raise
                except UsageError as e:
                    if not self._fits(recipe, fixed, scale, {name: value}, draw):
                        why = str(e).removeprefix(f"{name}: ")
                        where = name if "no such setting" in why else f"{name}: {json.dumps(value)}"
                        raise UsageError(f"{self.source}: {where}: {why}") from e

    def _fits(
        self,
        recipe: str,
        fixed: dict[str, Any],
        scale: int | None,
        one: dict[str, Any],
        draw: random.Random,
    ) -> bool:
        """Return whether the value fits any of 20 random settings of this space."""
        for _ in range(20 if len(self.dimensions) > 1 else 0):
            others = {n: draw.choice(d.samples()) for n, d in self.dimensions.items()}
            with contextlib.suppress(UsageError):
                build(recipe, {**fixed, **others, **one}, scale)
                return True
        return False


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Convert the pairs of a JSON object to a dict; ValueError when a name occurs twice."""
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is given twice")
    return unique


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, values); [arguments] and [gan] may be tables of their own."""
    for name, spec in content.items():
        nested = name in ("arguments", "gan") and isinstance(spec, Mapping)
        if nested and spec and all(isinstance(inner, Mapping) for inner in spec.values()):
            for inner, inner_spec in spec.items():
                yield f"{name}.{inner}", inner_spec
        else:
            yield name, spec


def _dimension(spec: Any) -> Dimension:
    """Convert one entry of a space; ValueError states what was expected."""
    if not isinstance(spec, Mapping) or not spec.keys() & {"type", "choices"}:
        raise ValueError(
            'expected {"type": "float" or "int", "low": .., "high": ..} or {"choices": [..]}, '
            f"got {_short(spec)}."
        )
    if "choices" in spec:
        return _choices(spec)
    kind = spec["type"]
    if kind not in ("float", "int"):
        raise ValueError(f'type: expected "float" or "int", got {_short(kind)}.')
    _require_known(spec, ("type", "low", "high", "log", "step"))
    low, high = (_number(spec, key) for key in ("low", "high"))
    step = _number(spec, "step") if "step" in spec else None
    log = spec.get("log", False)
    if log is not True and log is not False:
        raise ValueError(f"log: expected true or false, got {_short(log)}.")
    if low >= high:
        raise ValueError(f"low: expected less than high, got {low:g} and {high:g}.")
    if log and low <= 0:
        raise ValueError(f"low: expected more than 0 where log is true, got {low:g}.")
    _validate_step(low, high, log, step)
    return Dimension(kind, low, high, log, step)


def _validate_step(low: float, high: float, log: bool, step: float | None) -> None:
    if step is not None:
        if log or step <= 0:
            raise ValueError("step: expected more than 0, and none where log is true.")
        if (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
            raise ValueError(f"high: expected low plus some steps of {step:g}, got {high:g}.")


def _number(spec: Mapping[str, Any], key: str) -> float:
    whole = spec["type"] == "int"
    expected = f"{key}: expected {'a whole number' if whole else 'a number'}"
    if key not in spec:
        raise ValueError(f"{expected}, and it is missing.")
    value = spec[key]
    fitting = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fitting or not math.isfinite(value):
        raise ValueError(f"{expected}, got {_short(value)}.")
    return int(value) if whole else float(value)


def _choices(spec: Mapping[str, Any]) -> Dimension:
    _require_known(spec, ("choices",))
    given = spec["choices"]
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise ValueError(f"choices: expected a list of two or more, got {_short(given)}.")
    choices: list[Any] = []
    for value in given:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"choices: expected finite numbers, got {value}.")
        try:
            plain = value is None or isinstance(value, str | int | float)
            choice = value if plain else json.dumps(value)
        except TypeError as e:  # TOML has dates
            raise ValueError(f"choices: expected JSON values, got {value}.") from e
        if choice in choices:  # to Optuna 1 and true are equal as well
            raise ValueError(f"choices: expected different values, got {_short(value)} twice.")
        choices.append(choice)
    return Dimension("choice", choices=tuple(choices))


def _require_known(spec: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in spec:
        if key not in known:
            raise ValueError(f"{key}: not known here; expected {', '.join(known)}.")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def build(recipe: str, settings: Mapping[str, Any], scale: int | None) -> TrainConfig:
    """Return the config of these settings, after checking that its network can be built.

    Raises:
        UsageError: It cannot be built, or see `recipes.configure`.
    """
    ordered = dict(sorted(settings.items(), key=lambda item: item[0].count(".")))
    config = recipes.configure(recipe, ordered, scale)
    if any(name.startswith("arguments") or name in ("model", "patch") for name in settings):
        with torch.random.fork_rng(devices=[]):
            build_network(config)
    return config
