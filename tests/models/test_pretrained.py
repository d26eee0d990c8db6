"""models/published.py and `sharpreel fetch`: names that bring their weights from a publisher."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.errors import FetchError, UsageError
from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from sharpreel.models import MODELS
from sharpreel.models.pretrained import PUBLISHED
from sharpreel.models.weights import load_model
from sharpreel.system import download
from tests.support.videos import make_clip


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_row_describes_its_file(name: str) -> None:
    row = PUBLISHED[name]
    assert row.url.startswith("https://")
    assert re.fullmatch(r"([0-9a-f]{8}|[0-9a-f]{64})?", row.sha256)
    with torch.device("meta"):
        module: Any = MODELS[row.model].build(dict(row.arguments))
    assert sum(p.numel() for p in module.parameters()) == row.parameters
    assert module.scale == row.scale
    assert name not in MODELS
    # Its tensors under the module's own names are recognised as what the row states.
    state = {k: torch.empty(v.shape, device="meta") for k, v in module.state_dict().items()}
    if "." in next(iter(state)) and row.model != "srgan":
        recognise = MODELS[row.model].recognise
        assert recognise is not None
        found = recognise(state, row.file)
        assert found is not None
        assert {k: found[0][k] for k in row.arguments} == dict(row.arguments)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A publisher on this machine, who offers a small realesr-animevideov3."""
    folder = tmp_path / "published"
    folder.mkdir()
    torch.manual_seed(0)
    state = MODELS["srvgg"].build({"scale": 4, "channels": 8, "convs": 2}).state_dict()
    path = folder / "anime-v3.pth"
    torch.save({"params": state}, path)
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    row = replace(
        PUBLISHED["realesr-animevideov3"],
        url=f"http://127.0.0.1:{http.server_port}/{path.name}",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(PUBLISHED, "realesr-animevideov3", row)
    monkeypatch.setenv("SHARPREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSES", ())
    yield path
    http.shutdown()
    http.server_close()
    thread.join()


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_published_name_downloads_its_weights_and_upscales(
    publisher: Path, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, size=(64, 48))
    done = run("upscale", clip, "-m", "realesr-animevideov3", "--preset", "ultrafast", "--json")
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "download"
    assert events[0]["bytes"] == events[0]["total"] == publisher.stat().st_size
    out = tmp_path / "in_realesr-animevideov3_x4.mp4"
    assert probe(out).shown_size == (256, 192)
    assert verify(clip, out) == []
    # From now on no network is needed.
    publisher.unlink()
    again = run("upscale", clip, "-m", "realesr-animevideov3", "--offline", "-y", "--json")
    assert again.exit_code == 0, again.output
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert "download" not in {event["event"] for event in events}
    card = load_model("realesr-animevideov3").card
    assert card["licence"] == "BSD-3-Clause"
    assert card["source"].endswith("/anime-v3.pth")


@pytest.mark.parametrize("command", ["upscale", "plan"])
def test_offline_the_error_names_the_path_of_the_file(
    command: str, publisher: Path, tmp_path: Path, clip: Path
) -> None:
    done = run(command, clip, "-m", "realesr-animevideov3", "--offline")
    assert done.exit_code == 3
    where = str(tmp_path / "cache" / "anime-v3.pth")
    assert where in done.output.replace("\n", "")


def test_a_damaged_file_in_the_cache_is_not_used(publisher: Path, tmp_path: Path) -> None:
    done = run("fetch", "realesr-animevideov3")
    assert done.exit_code == 0, done.output
    kept = Path(done.stdout.splitlines()[-1])
    assert kept.parent == tmp_path / "cache"
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(FetchError, match="Delete it to download it again"):
        load_model("realesr-animevideov3")


def test_the_wrong_file_is_refused_and_not_kept(publisher: Path, tmp_path: Path) -> None:
    publisher.write_bytes(b"something else")
    done = run("fetch", "realesr-animevideov3")
    assert done.exit_code == 3
    assert "checksum mismatch" in done.output
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_lists_what_can_be_downloaded() -> None:
    done = run("fetch", "reel-fast")
    assert done.exit_code == 2
    assert "basicvsrpp-reds4" in done.output


def test_a_family_lists_its_downloadable_checkpoints() -> None:
    with pytest.raises(UsageError, match="or one to download: basicvsr-reds4, "):
        load_model("basicvsr")
    with pytest.raises(UsageError, match="Did you mean basicvsrpp-reds4"):
        load_model("basicvsrpp-reds")


def test_models_lists_where_everything_comes_from() -> None:
    done = run("models", "--json")
    assert done.exit_code == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    places = ("package", "download", "checkpoint")
    by_place = {place: [r for r in rows if r["where"] == place] for place in places}
    assert {r["name"] for r in by_place["download"]} == set(PUBLISHED)
    assert {r["name"] for r in by_place["checkpoint"]} == {
        name for name, spec in MODELS.items() if not spec.bundled
    }
    for r in rows:
        assert r["family"] in MODELS
        assert r["licence"]
        assert r["context"]
        assert r["source"]
    for r in by_place["download"]:
        assert r["parameters"] > 0
        assert r["source"].startswith("https://")
    words = run("models").stdout
    assert all(name in words for name in [*MODELS, *PUBLISHED])
