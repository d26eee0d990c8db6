"""Search spaces from JSON and TOML, and what is wrong with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.training.tune.space import Dimension, Space
from tests.support.tuning import (
    RATE,
    search,
)

JSON_SPACE = """{
 "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": true},
 "arguments.channels": {"type": "int", "low": 8, "high": 24, "step": 8},
 "stages": {"choices": [[[1.0, 2, 4]], "[[1.0, 3, 2]]"]},
 "gan": {"choices": [null, {"image": 0.5}]}
}"""


TOML_SPACE = """
learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}
stages.choices = [[[1.0, 2, 4]], "[[1.0, 3, 2]]"]
gan.choices = ["none", {image = 0.5}]
[arguments]
channels = {type = "int", low = 8, high = 24, step = 8}
"""


def test_json_and_toml_are_equivalent_and_tables_may_nest(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(JSON_SPACE)
    (tmp_path / "b.toml").write_text(TOML_SPACE)
    one, two = (Space.read(tmp_path / name).dimensions for name in ("a.json", "b.toml"))
    assert one["learning_rate"] == Dimension("float", 1e-4, 1e-2, log=True)
    assert one["arguments.channels"] == Dimension("int", 8, 24, step=8)
    assert one["stages"].choices == ("[[1.0, 2, 4]]", "[[1.0, 3, 2]]")
    assert one["gan"].choices == (None, '{"image": 0.5}')
    assert {**two, "gan": one["gan"]} == dict(one)
    assert two["gan"].choices == ("none", '{"image": 0.5}')
    for name in ("a.json", "b.toml"):
        Space.read(tmp_path / name).validate("reel-fast", {"arguments.unshuffle": 2})


EXPECTED = {
    "[1, 2]": 'expected {"type": "float" or "int", .*} or {"choices": .*}, got [1, 2].',
    '{"low": 1, "high": 2}': 'expected {"type": .*, got {"low": 1, "high": 2}.',
    '{"type": "real", "low": 1, "high": 2}': 'type: expected "float" or "int", got "real".',
    '{"type": "int", "low": 1}': "high: expected a whole number, and it is missing.",
    '{"type": "int", "low": 1.0, "high": 2}': "low: expected a whole number, got 1.0.",
    '{"type": "float", "low": "1e-4", "high": 2}': 'low: expected a number, got "1e-4".',
    '{"type": "float", "low": 1, "high": Infinity}': "high: expected a number, got Infinity.",
    '{"type": "float", "low": true, "high": 2}': "low: expected a number, got true.",
    '{"type": "float", "low": 2, "high": 2}': "low: expected less than high, got 2 and 2.",
    '{"type": "float", "low": 0, "high": 2, "log": true}': "low: expected more than 0 where log .*",
    '{"type": "float", "low": 1, "high": 2, "log": 1}': "log: expected true or false, got 1.",
    '{"type": "int", "low": 1, "high": 4, "step": 2}': "high: expected low plus some steps of 2.*",
    '{"type": "int", "low": 1, "high": 4, "step": 0}': "step: expected more than 0.*",
    '{"type": "int", "low": 1, "high": 4, "logs": true}': "logs: not known here; expected type.*",
    '{"choices": [1, 2], "type": "int"}': "type: not known here; expected choices.",
    '{"choices": [1]}': "choices: expected a list of two or more, got [1].",
    '{"choices": "ab"}': 'choices: expected a list of two or more, got "ab".',
    '{"choices": [1, true]}': "choices: expected different values, got true twice.",
}


@pytest.mark.parametrize("spec", EXPECTED)
def test_an_invalid_space_is_refused_with_file_setting_and_expectation_in_one_line(
    spec: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.json"
    path.write_text(f'{{"learning_rate": {spec}}}')
    with pytest.raises(UsageError) as caught:
        Space.read(path)
    message = str(caught.value)
    expected = re.escape(EXPECTED[spec]).replace(r"\.\*", ".*")
    assert re.fullmatch(f"{re.escape(str(path))}: learning_rate: {expected}", message), message


@pytest.mark.parametrize(
    ("name", "text", "kind", "expected"),
    [
        ("s.json", "{", InputError, "s.json: not JSON: Expecting property name"),
        ("s.toml", "a = ", InputError, "s.toml: not TOML: Invalid value"),
        ("s.json", '{"a": 1, "a": 2}', InputError, "s.json: not JSON: a is given twice."),
        ("s.yaml", "a: 1", UsageError, "s.yaml: a search space is a .json or a .toml file."),
        ("s.json", "[]", UsageError, "s.json: expected settings by name"),
        ("s.json", "{}", UsageError, "s.json: expected settings by name"),
        (
            "s.json",
            '{"scale": {"choices": [2, 4]}}',
            UsageError,
            "s.json: scale: cannot be searched; it decides which clips are used.",
        ),
        (
            "s.json",
            '{"gan": {"choices": [null, {}]}, "gan.image": {"choices": [1, 2]}}',
            UsageError,
            "s.json: gan.image: gan is already part of the search space.",
        ),
    ],
)
def test_a_file_that_is_not_a_space_is_refused(
    name: str, text: str, kind: type[Exception], expected: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(kind) as caught:
        Space.read(tmp_path / name)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_space_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json: cannot be read \(No such file"):
        Space.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"learning_rat": RATE}, "learning_rat: no such setting. Did you mean learning_rate?"),
        ({"gan.imag": RATE}, "gan.imag: no such setting. Did you mean gan.image?"),
        ({"arguments.chanels": {"choices": [8, 16]}}, "unexpected keyword argument 'chanels'"),
        ({"loss": {"choices": ["l1", "l3"]}}, 'loss: "l3": '),
        ({"patch": {"type": "float", "low": 16, "high": 32}}, "patch: 22.1"),
        ({"patch": {"choices": [16, 0]}}, "patch: 0: patch must be 1 or more"),
        ({"steps": {"choices": [10, 20]}}, "steps: is both set to 6 and searched; choose one."),
    ],
)
def test_settings_that_the_recipe_lacks_are_refused_before_any_trial(
    content: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        search(tmp_path / "out", space=path, settings={"steps": 6})
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_a_value_that_needs_another_setting_of_the_space_is_allowed() -> None:
    game = {"gan.game": {"choices": ["iseebetter", "relativistic"]}}
    with pytest.raises(UsageError, match=r'gan.game: "relativistic": .*discriminator=fast'):
        Space.of(game).validate("iseebetter-4x")
    discriminator = {"gan.discriminator": {"choices": ["iseebetter", "fast"]}}
    Space.of(game | discriminator).validate("iseebetter-4x")
