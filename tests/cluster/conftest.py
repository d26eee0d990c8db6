"""A Ray cluster of several nodes on this machine, a head of its own, and a video."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import pytest

from sharpreel.cluster.ray_cluster import Cluster
from sharpreel.models import weights
from sharpreel.upscale import upscale_video
from tests.support.ray_nodes import (
    FRAMES,
    NODES,
    SEGMENT,
    free_port,
    ray_processes,
    until,
    with_word,
)
from tests.support.terminal import DEADLINE
from tests.support.videos import make_clip


@pytest.fixture(scope="package")
def ray_token() -> Iterator[None]:
    """A token of our own: Ray would write one into the home folder."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", os.urandom(32).hex())
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray would let all else on this machine go first
        yield
        left = ray_processes()
        _, alive = psutil.wait_procs(left, timeout=30)
        for process in alive:
            process.kill()
        assert not alive


@pytest.fixture(scope="package")
def nodes(ray_token: None) -> Iterator[Any]:
    """A Ray cluster: a head without processors, and two nodes of one processor each."""
    quiet = {"include_dashboard": False, "object_store_memory": 100 << 20}
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    started = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    for _ in range(NODES):
        started.add_node(num_cpus=1, object_store_memory=100 << 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", started.address)
        yield started
    started.shutdown()


@pytest.fixture(scope="package")
def there(nodes: Any) -> Iterator[Cluster]:
    with Cluster("auto") as connected:
        yield connected


@pytest.fixture(scope="module")
def head(ray_token: None) -> Iterator[tuple[str, str]]:
    """A head as docs/cluster.md starts it; its address and that of its client server.

    One for each file: a test in `test_ray_cluster.py` ends its client server.
    """
    port, client = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # sockets: short paths
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", f"--port={port}"]
        command += [f"--ray-client-server-port={client}", "--include-dashboard=false"]
        command += ["--num-cpus=1", f"--object-store-memory={100 << 20}", f"--temp-dir={folder}"]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=DEADLINE,
            env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},  # of `nodes`
        )
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
        for end in (psutil.Process.terminate, psutil.Process.kill):  # as `ray stop` does
            left = with_word(folder) + with_word("ray.util.client.server")
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            psutil.wait_procs(left, timeout=10)
        until(lambda: not with_word(folder))


@pytest.fixture(scope="package")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key frames every 12 frames, B-frames and sound."""
    folder = tmp_path_factory.mktemp("sources")
    return make_clip(folder / "clip.mp4", frames=FRAMES, options={"g": "12", "bf": "2"})


@pytest.fixture(scope="package")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The output of a run without a cluster, by model and suffix."""
    folder = tmp_path_factory.mktemp("alone")

    @lru_cache
    def upscaled(model: str, suffix: str = ".mp4") -> Path:
        output = folder / f"{model}{suffix}"
        upscale_video(source, output, model=model, segment_seconds=SEGMENT)
        return output

    return upscaled


@pytest.fixture
def own_network(tmp_path: Path) -> Path:
    """A model file that looks at two frames before and one after; without a graph."""
    torch = pytest.importorskip("torch")
    from sharpreel.models.tsrcnn import TSRCNN

    torch.manual_seed(1)
    arguments: Any = {"size": "small", "scale": 2, "past": 2, "future": 1}
    path = tmp_path / "mine_x2.safetensors"
    card = {"model": "tsrcnn", "arguments": arguments}
    weights.save_weights(path, TSRCNN(**arguments).state_dict(), card)
    return path
