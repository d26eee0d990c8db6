"""`sharpreel remote`: a film made elsewhere, by a command that can be given again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from sharpreel.errors import FetchError, InputError, RemoteError, UsageError
from sharpreel.media.verify import verify
from sharpreel.web import create_app
from sharpreel.web.client import Memory, SiteClient, _bring, _send, upscale
from sharpreel.web.context import KEY
from sharpreel.web.settings import Settings
from tests.support.site_process import PLENTY, Running, site
from tests.support.terminal import events, sharpreel

TOKEN = "the token of a site"
BICUBIC = {"model": "bicubic"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("site") / "data"
    with site(folder, *PLENTY, "--limit", "chunk_bytes=4000", env={"SHARPREEL_TOKEN": TOKEN}) as it:
        it.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield it


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, so that no test goes on with another's work."""
    monkeypatch.setenv("SHARPREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SHARPREEL_TOKEN", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def there(running: Running) -> SiteClient:
    return SiteClient(f"http://127.0.0.1:{running.client.port}", TOKEN)


class Stop(Exception):
    """What a test raises in the middle of a call, as Ctrl-C would."""


class Told:
    """What a call told; stops it when this is true."""

    def __init__(self, stop: Any = lambda event, values: False) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []
        self._stop = stop

    def __call__(self, event: str, values: Mapping[str, Any]) -> None:
        self.all.append((event, dict(values)))
        if self._stop(event, values):
            raise Stop

    def of(self, event: str) -> list[dict[str, Any]]:
        return [values for name, values in self.all if name == event]


def test_the_command_brings_a_film_that_holds_all(
    running: Running, clip: Path, tmp_path: Path
) -> None:
    url, film = f"http://127.0.0.1:{running.client.port}", tmp_path / "film.mkv"
    words = ["remote", url, "upscale", clip, "-o", film, "-m", "bicubic", "--token", TOKEN]
    said = sharpreel(*words, "--json")
    assert said.returncode == 0, said.stderr
    kinds = [event["event"] for event in events(said.stdout)]
    assert list(dict.fromkeys(kinds)) == ["upload", "job", "download", "done"]
    assert verify(clip, film) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "film.mkv"]
    assert list((tmp_path / "cache" / "remote").iterdir()) == []
    again = sharpreel(*words)
    assert again.returncode == 2
    assert "film.mkv exists. Give --overwrite" in again.stderr


def test_a_film_stands_beside_its_source_under_the_name_that_the_site_gives(
    there: SiteClient, clip: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a b.mp4"
    source.write_bytes(clip.read_bytes())
    made = upscale(there, source, None, BICUBIC, Told())
    assert made == tmp_path / "a b_bicubic_x2.mp4"
    assert verify(source, made) == []


def test_an_upload_a_job_and_a_download_go_on_where_they_were(
    running: Running, there: SiteClient, clip: Path, tmp_path: Path
) -> None:
    film, size = tmp_path / "film.mp4", clip.stat().st_size
    before = {job["id"] for job in running.client.good("GET", "/jobs")}

    def stopped_when(stop: Any) -> Told:
        told = Told(stop)
        with pytest.raises(Stop):
            upscale(there, clip, film, BICUBIC, told)
        return told

    stopped_when(lambda event, values: event == "upload" and values["bytes"] >= 8000)
    second = stopped_when(lambda event, values: event == "job")
    assert second.of("upload")[0]["resumed"] == 8000
    third = stopped_when(lambda event, values: event == "download")
    assert third.of("upload") == []
    assert not film.exists()
    told = Told()
    assert upscale(there, clip, film, BICUBIC, told) == film
    assert told.of("upload") == []
    assert told.of("job")[-1]["id"] == second.of("job")[0]["id"]
    jobs = {job["id"] for job in running.client.good("GET", "/jobs")} - before
    assert len(jobs) == 1
    uploads = [u for u in running.client.good("GET", "/uploads") if u["size"] == size]
    assert uploads
    assert verify(clip, film) == []


def test_a_download_goes_on_at_its_byte_and_a_wrong_one_is_not_kept(
    there: SiteClient, clip: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    upscale(there, clip, film, BICUBIC, Told())
    job = next(one for one in there.call("GET", "/jobs") if one["state"] == "done")
    whole = tmp_path / "whole.mp4"
    _bring(there, job, whole, Told())
    data = whole.read_bytes()
    part, stamp = tmp_path / "part.mp4.part", tmp_path / "part.mp4.part.sha256"
    stamp.write_text(job["result"]["sha256"])
    part.write_bytes(data[:1000])
    told = Told()
    _bring(there, job, tmp_path / "part.mp4", told)
    assert (tmp_path / "part.mp4").read_bytes() == data
    assert told.of("download")[0]["bytes"] > 1000
    stamp.write_text(job["result"]["sha256"])
    part.write_bytes(b"x" * len(data))
    with pytest.raises(FetchError, match="not the result"):
        _bring(there, job, tmp_path / "part.mp4", Told())
    assert not part.exists()


def test_refusals_are_told_in_the_sites_own_words(
    running: Running, there: SiteClient, clip: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no film\n" * 1000)
    with pytest.raises(InputError, match="not a video"):
        upscale(there, text, None, BICUBIC, Told())
    with pytest.raises(RemoteError, match="no such network here"):
        upscale(there, clip, tmp_path / "a.mp4", {"model": "reeel"}, Told())
    with pytest.raises(InputError, match="no such file"):
        upscale(there, tmp_path / "none.mp4", None, BICUBIC, Told())
    with pytest.raises(UsageError, match="write the site as"):
        SiteClient("ftp://host")
    stranger = SiteClient(there.url)
    with pytest.raises(RemoteError, match="needs its token"):
        upscale(stranger, clip, tmp_path / "a.mp4", BICUBIC, Told())


def test_an_upload_that_is_being_checked_is_waited_for(clip: Path, tmp_path: Path) -> None:
    """As after a lost answer to `finish`: the site goes on checking."""
    app = create_app(Settings(data_dir=tmp_path / "data"))
    here = app.extensions[KEY]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    there = SiteClient(f"http://127.0.0.1:{server.server_port}")
    data = clip.read_bytes()
    upload = there.call("POST", "/uploads", {"name": "a.mp4", "size": len(data)})
    place = f"/uploads/{upload['id']}"
    there.ask("PATCH", place, data, {"Upload-Offset": "0"})
    memory = Memory(there.url, clip, BICUBIC)
    memory.keep(upload=upload["id"])
    try:
        assert here.receiving.enter(upload["id"])
        assert there.call("GET", place)["state"] == "checking"
        with pytest.raises(RemoteError, match="has it checked"):
            there.ask("POST", f"{place}/finish")
        checked = threading.Timer(1.5, here.receiving.leave, [upload["id"]])
        checked.start()
        assert _send(there, clip, memory, Told()) == upload["id"]
        checked.join()
        assert there.call("GET", place)["state"] == "ready"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        here.close()


def test_a_site_that_is_not_there_is_told_at_once(clip: Path, tmp_path: Path) -> None:
    said = sharpreel("remote", "http://127.0.0.1:9", "upscale", clip, "-o", tmp_path / "a.mp4")
    assert said.returncode == 3
    assert said.stderr.strip().splitlines()[-1] == (
        "sharpreel: http://127.0.0.1:9: cannot be reached (Connection refused)."
    )
