"""Settings of a site: limits as text, JSON for child processes, and folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sharpreel.errors import ResumableError, UsageError
from sharpreel.web.settings import Settings, parse_limits, read_settings
from tests.support.site_app import LIMITS


def test_settings_survive_json_in_one_line(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, token="x", public_hosts=("a", "b"), limits=LIMITS)
    assert Settings.from_json(settings.to_json()) == settings
    assert "\n" not in settings.to_json()


def test_limits_are_parsed_with_units() -> None:
    found = parse_limits(["upload_bytes=4G", "keep_hours=0.5", "job_bytes=none", "burst=7"])
    assert (found.upload_bytes, found.keep_hours, found.job_bytes, found.burst) == (
        4 << 30,
        0.5,
        None,
        7,
    )
    for text in ("upload_byte=4", "burst=x", "burst=none", "burst"):
        with pytest.raises(UsageError):
            parse_limits([text])


def test_an_unknown_limit_names_its_parameter() -> None:
    with pytest.raises(UsageError, match=r"limit=upload_byte: no such limit\. Did you mean"):
        parse_limits(["upload_byte=4"])
    with pytest.raises(UsageError, match=r"limit=burst=x: not a number"):
        parse_limits(["burst=x"])


def test_the_key_of_a_data_folder_is_created_once_and_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.prepare()
    key = settings.secret()
    assert key == settings.secret()
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600


def test_a_data_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be created"):
        Settings(data_dir=tmp_path / "file" / "data").prepare()


def test_child_processes_read_their_settings_from_standard_input(
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, port=8123)
    reader, writer = os.pipe()
    os.write(writer, settings.to_json().encode() + b"\nrest")
    os.close(writer)
    stdin = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert read_settings() == settings
        assert os.read(0, 9) == b"rest"
        with pytest.raises(ResumableError, match="supervisor ended"):
            read_settings()
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(reader)
