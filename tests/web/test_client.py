"""The client of a site: uploads, waits and downloads, and resumes when it is called again."""

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
from sharpreel.web.client import SiteClient, TransferState, _download, _upload, upscale
from sharpreel.web.context import EXTENSION, SiteContext
from sharpreel.web.settings import Settings
from tests.support.site_process import NO_RATE_LIMITS, RunningSite, running_site
from tests.support.terminal import events, sharpreel

TOKEN = "the token of a site"
BICUBIC = {"model": "bicubic"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("site") / "data"
    options = (*NO_RATE_LIMITS, "--limit", "chunk_bytes=4000")
    with running_site(folder, *options, env={"SHARPREEL_TOKEN": TOKEN}) as site:
        site.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield site


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache per test, so that no test resumes a transfer of another one."""
    monkeypatch.setenv("SHARPREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SHARPREEL_TOKEN", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def remote(running: RunningSite) -> SiteClient:
    return SiteClient(f"http://127.0.0.1:{running.client.port}", TOKEN)


class Stop(Exception):
    """Raised by a test in the middle of a call, as Ctrl-C would be."""


class Recorder:
    """A progress callback that records events; raises Stop when a condition is met."""

    def __init__(self, stop: Any = lambda event, values: False) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []
        self._stop = stop

    def __call__(self, event: str, values: Mapping[str, Any]) -> None:
        self.all.append((event, dict(values)))
        if self._stop(event, values):
            raise Stop

    def of(self, event: str) -> list[dict[str, Any]]:
        return [values for name, values in self.all if name == event]


def test_the_command_downloads_a_complete_result(
    running: RunningSite, clip: Path, tmp_path: Path
) -> None:
    url, output = f"http://127.0.0.1:{running.client.port}", tmp_path / "video.mkv"
    command = ["remote", url, "upscale", clip, "-o", output, "-m", "bicubic", "--token", TOKEN]
    done = sharpreel(*command, "--json")
    assert done.returncode == 0, done.stderr
    kinds = [event["event"] for event in events(done.stdout)]
    assert list(dict.fromkeys(kinds)) == ["upload", "job", "download", "done"]
    assert verify(clip, output) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "video.mkv"]
    assert list((tmp_path / "cache" / "remote").iterdir()) == []
    again = sharpreel(*command)
    assert again.returncode == 2
    assert "video.mkv exists. Give --overwrite" in again.stderr


def test_without_an_output_the_result_is_next_to_its_source(
    remote: SiteClient, clip: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a b.mp4"
    source.write_bytes(clip.read_bytes())
    result = upscale(remote, source, None, BICUBIC, Recorder())
    assert result == tmp_path / "a b_bicubic_x2.mp4"
    assert verify(source, result) == []


def test_an_upload_a_job_and_a_download_resume(
    running: RunningSite, remote: SiteClient, clip: Path, tmp_path: Path
) -> None:
    output, size = tmp_path / "video.mp4", clip.stat().st_size
    before = {job["id"] for job in running.client.call("GET", "/jobs")}

    def stopped_when(stop: Any) -> Recorder:
        recorder = Recorder(stop)
        with pytest.raises(Stop):
            upscale(remote, clip, output, BICUBIC, recorder)
        return recorder

    stopped_when(lambda event, values: event == "upload" and values["bytes"] >= 8000)
    second = stopped_when(lambda event, values: event == "job")
    assert second.of("upload")[0]["resumed"] == 8000
    third = stopped_when(lambda event, values: event == "download")
    assert third.of("upload") == []
    assert not output.exists()
    recorder = Recorder()
    assert upscale(remote, clip, output, BICUBIC, recorder) == output
    assert recorder.of("upload") == []
    assert recorder.of("job")[-1]["id"] == second.of("job")[0]["id"]
    jobs = {job["id"] for job in running.client.call("GET", "/jobs")} - before
    assert len(jobs) == 1
    uploads = [u for u in running.client.call("GET", "/uploads") if u["size"] == size]
    assert uploads
    assert verify(clip, output) == []


def test_a_download_resumes_at_its_byte_and_a_corrupted_one_is_deleted(
    remote: SiteClient, clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / "video.mp4"
    upscale(remote, clip, output, BICUBIC, Recorder())
    job = next(one for one in remote.call("GET", "/jobs") if one["state"] == "done")
    complete = tmp_path / "complete.mp4"
    _download(remote, job, complete, Recorder())
    data = complete.read_bytes()
    part, stamp = tmp_path / "part.mp4.part", tmp_path / "part.mp4.part.sha256"
    stamp.write_text(job["result"]["sha256"])
    part.write_bytes(data[:1000])
    recorder = Recorder()
    _download(remote, job, tmp_path / "part.mp4", recorder)
    assert (tmp_path / "part.mp4").read_bytes() == data
    assert recorder.of("download")[0]["bytes"] > 1000
    stamp.write_text(job["result"]["sha256"])
    part.write_bytes(b"x" * len(data))
    with pytest.raises(FetchError, match="checksum mismatch of the result"):
        _download(remote, job, tmp_path / "part.mp4", Recorder())
    assert not part.exists()


def test_errors_carry_the_message_of_the_site(
    running: RunningSite, remote: SiteClient, clip: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 1000)
    with pytest.raises(InputError, match="not a readable video"):
        upscale(remote, text, None, BICUBIC, Recorder())
    with pytest.raises(RemoteError, match="no such model on this site"):
        upscale(remote, clip, tmp_path / "a.mp4", {"model": "reeel"}, Recorder())
    with pytest.raises(InputError, match="no such file"):
        upscale(remote, tmp_path / "none.mp4", None, BICUBIC, Recorder())
    with pytest.raises(UsageError, match="write the site as"):
        SiteClient("ftp://host")
    stranger = SiteClient(remote.url)
    with pytest.raises(RemoteError, match=r"requires its token: pass token=TEXT"):
        upscale(stranger, clip, tmp_path / "a.mp4", BICUBIC, Recorder())


def test_the_client_waits_for_an_upload_that_is_being_checked(clip: Path, tmp_path: Path) -> None:
    """As after a lost response to `finish`: the site is still checking."""
    app = create_app(Settings(data_dir=tmp_path / "data"))
    site: SiteContext = app.extensions[EXTENSION]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    remote = SiteClient(f"http://127.0.0.1:{server.server_port}")
    data = clip.read_bytes()
    upload = remote.call("POST", "/uploads", {"name": "a.mp4", "size": len(data)})
    path = f"/uploads/{upload['id']}"
    remote.request("PATCH", path, data, {"Upload-Offset": "0"})
    state = TransferState(remote.url, clip, BICUBIC)
    state.save(upload=upload["id"])
    try:
        assert site.receiving.enter(upload["id"])
        assert remote.call("GET", path)["state"] == "checking"
        with pytest.raises(RemoteError, match="sending or checking this upload"):
            remote.request("POST", f"{path}/finish")
        checked = threading.Timer(1.5, site.receiving.leave, [upload["id"]])
        checked.start()
        assert _upload(remote, clip, state, Recorder()) == upload["id"]
        checked.join()
        assert remote.call("GET", path)["state"] == "ready"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        site.close()


def test_a_site_that_cannot_be_reached_is_reported_at_once(clip: Path, tmp_path: Path) -> None:
    done = sharpreel("remote", "http://127.0.0.1:9", "upscale", clip, "-o", tmp_path / "a.mp4")
    assert done.returncode == 3
    assert done.stderr.strip().splitlines()[-1] == (
        "sharpreel: http://127.0.0.1:9: cannot be reached (Connection refused)."
    )
