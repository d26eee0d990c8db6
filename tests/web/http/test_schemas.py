"""Schemas of the API: names come from the tables of the library, and unknown ones are rejected."""

from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic import ValidationError

from sharpreel.media.containers import CONTAINERS
from sharpreel.media.encoders import CODECS
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.web.http import schemas


def test_every_codec_and_every_container_of_the_library_is_accepted() -> None:
    for codec in CODECS:
        assert schemas.Options(codec=codec).codec == codec
    for suffix in CONTAINERS:
        assert schemas.Options(container=suffix[1:]).container == suffix[1:]
    properties = schemas.Options.model_json_schema()["properties"]
    assert properties["codec"]["anyOf"][0]["enum"] == list(CODECS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codec": "h264 -y"}, "choose one of h264, hevc"),
        ({"container": "../x"}, "choose one of mkv"),
        ({"output": "/etc/passwd"}, "Extra inputs are not permitted"),
        ({"scale": 17}, "less than or equal to 16"),
    ],
)
def test_other_options_are_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        schemas.Options.model_validate(values)


def test_the_options_of_a_job_are_options_of_a_run() -> None:
    """`container` alone is the site's: it names the output, which the site does."""
    assert {*schemas.Options.model_fields} - {"container"} <= {
        field.name for field in fields(UpscaleOptions)
    }
