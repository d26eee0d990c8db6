"""Connects to a Ray cluster: reachability, tokens, capacity and slots."""

from __future__ import annotations

import importlib
import itertools
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sharpreel.errors import MissingExtra, UsageError
from sharpreel.system.resources import cuda_available, usable_cpus

T = TypeVar("T")
U = TypeVar("U")
WAITING = 2  # segments submitted for each that can run at once: the next one is ready
VIDEOS_AT_ONCE = 16
CONNECTING = 3  # attempts of a driver to get its process from a client server
SLOW_START = "Initialization failure from server"  # the client's message when that is too slow
OWN_STORE_BYTES = 256 << 20  # a local cluster is one machine: frames are read by path
WARNING = (
    "starting Ray on this machine; while it runs it listens on every network interface, and "
    "whoever reaches it can run code. Use it in a private network only."
)
RAY_SETTINGS = {  # read when Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",  # it would send usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # it would start one here when the requested one is lost
    "GRPC_VERBOSITY": "ERROR",  # it would warn that this process has threads
}
CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # every driver's first call
HELLO_SECONDS = 10.0  # for a connection, and for the answer to it
START_ONE = "Start one with ray start --head, or use cluster='local'."
OTHER_PORT = "ray start --head prints its port; that of ray:// is --ray-client-server-port, 10001."
GIVE_TOKEN = "Is its token in RAY_AUTH_TOKEN or ~/.ray/auth_token here? See docs/cluster.md."


class Slots:
    """Limits how many segments are submitted at a time; earlier videos are served first.

    Args:
        limit: Returns the limit; called each time, because a cluster grows and shrinks.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit, self.taken = limit, 0
        self._waiting: list[int] = []
        self._changed = threading.Condition()

    def take(self, rank: int, timeout: float) -> bool:
        """Wait for a slot, at most `timeout` seconds; False if there was none."""
        with self._changed:
            self._waiting.append(rank)
            try:
                free = self._changed.wait_for(
                    lambda: self.taken < self._limit() and rank == min(self._waiting), timeout
                )
            finally:
                self._waiting.remove(rank)
                self._changed.notify_all()
            self.taken += free
            return free

    def give(self, count: int = 1) -> None:
        with self._changed:
            self.taken -= count
            self._changed.notify_all()


class Cluster:
    """A connection to a Ray cluster; a context manager.

    Args:
        address: "auto" (the cluster that this machine belongs to), "ray://HOST:PORT", or "local":
            one is started on this machine and ends with the context.
        cpus_per_task: Processors for each segment; by default 2, or what there is.
        gpus_per_task: GPUs for each segment; 0.25 lets four tasks share one.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: There is no such cluster, it cannot be reached, or a task does not fit on this
            machine.
    """

    def __init__(
        self, address: str = "auto", cpus_per_task: int | None = None, gpus_per_task: float = 0
    ) -> None:
        if address not in ("auto", "local") and not address.startswith("ray://"):
            raise UsageError(f"cluster={address!r}: must be auto, local or ray://HOST:PORT.")
        if cpus_per_task is not None and cpus_per_task < 1:
            raise UsageError(f"cpus_per_task must be 1 or more, got {cpus_per_task}.")
        if gpus_per_task < 0 or (gpus_per_task > 1 and gpus_per_task != int(gpus_per_task)):
            raise UsageError(
                f"gpus_per_task={gpus_per_task}: must be a share of one, or a whole number."
            )
        if address == "local":
            _validate_local(cpus_per_task, gpus_per_task)
        self.address, self.gpus_per_task = address, gpus_per_task
        self._cpus = cpus_per_task
        self.stopped = threading.Event()
        self.slots = Slots(lambda: WAITING * max(self.capacity, 1))
        self._ranks = itertools.count()
        self._seen: tuple[float, int] = (0.0, 0)

    def __enter__(self) -> Cluster:
        for name, value in RAY_SETTINGS.items():
            os.environ.setdefault(name, value)
        before: Any = sys.modules.get("ray")
        self._ours = before is None or not before.is_initialized()
        try:
            grpc = importlib.import_module("grpc")
            answers = self._ours and self._probe_server(grpc)
            import ray
        except ImportError as e:
            raise MissingExtra("A Ray cluster", "cluster") from e
        self.ray: Any = ray
        self.lost = ConnectionError, ray.exceptions.RaySystemError, grpc.RpcError
        if self._ours:
            self._connect(GIVE_TOKEN if answers else START_ONE)
        self.nodes = [n for n in ray.nodes() if n["Alive"]]
        largest = max((int(n["Resources"].get("CPU", 0)) for n in self.nodes), default=0)
        self.cpus_per_task = self._cpus or (min(2, largest) or 2)
        if self._ours and self.address == "local" and not self.capacity:
            ray.shutdown()
            raise UsageError(
                f"gpus_per_task={self.gpus_per_task:g}: this machine has fewer GPUs, and a local "
                "cluster cannot scale up."
            )
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
        if self._ours:
            self.ray.shutdown()

    def _connect(self, advice: str) -> None:
        quietly = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self.address == "local":
                self.ray.init(
                    address="local",
                    num_cpus=usable_cpus(),
                    include_dashboard=False,
                    object_store_memory=OWN_STORE_BYTES,
                    **quietly,
                )
            else:
                self._join(quietly)
        except Exception as e:  # Ray raises of many kinds here
            raise self._unreachable(e, advice) from e

    def _join(self, quietly: dict[str, Any]) -> None:
        """Connect to a running cluster.

        A client server starts a process for each driver and does not wait long for it: on a busy
        machine the second or third attempt succeeds.
        """
        for left in reversed(range(CONNECTING)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # ray:// also warns of what it raises
                    self.ray.init(address=self.address, **quietly)
                return
            except Exception as e:
                if not left or SLOW_START not in str(e):
                    raise

    def _probe_server(self, grpc: Any) -> bool:
        """Whether the cluster answered; False if only Ray knows its address.

        Sets the variable that makes Ray send a token, before Ray is imported and reads it: a
        driver that is given an address does not look for one, and in a cluster without tokens the
        workers cannot reach a driver that wants them.

        Raises:
            UsageError: Nothing listens there, and Ray would end this process; it is not Ray, for
                which Ray would wait for minutes; it needs a token and there is none.
        """
        named = os.environ.get("RAY_ADDRESS", "") if self.address == "auto" else self.address
        host, colon, port = named.removeprefix("ray://").rpartition(":")
        if not (colon and port.isdecimal()):
            return False
        try:
            socket.create_connection((host.strip("[]"), int(port)), HELLO_SECONDS).close()
        except OSError as e:
            raise self._unreachable(e, START_ONE) from e
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return True
        status = _status_without_token(grpc, f"{host}:{port}")
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise self._unreachable("what listens there is not Ray", OTHER_PORT)
        if status != grpc.StatusCode.OK and _has_token():
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        elif status == grpc.StatusCode.UNAUTHENTICATED:
            raise self._unreachable("it needs a token", GIVE_TOKEN)
        return True

    def _unreachable(self, cause: Exception | str, advice: str) -> UsageError:
        reason = " ".join(str(cause).split())[:160] or type(cause).__name__
        return UsageError(
            f"cluster={self.address!r}: no Ray cluster can be reached there ({reason}). {advice}"
        )

    @property
    def capacity(self) -> int:
        """Number of segments that can be computed at once, now."""
        at, count = self._seen
        if time.monotonic() > at + 2:
            count = sum(map(self._room, self.ray.nodes()))
            self._seen = (time.monotonic(), count)
        return count

    def _room(self, node: dict[str, Any]) -> int:
        if not node["Alive"]:
            return 0
        has = node["Resources"]
        room = int(has.get("CPU", 0) // self.cpus_per_task)
        if self.gpus_per_task:
            room = min(room, int(has.get("GPU", 0) / self.gpus_per_task))
        return room

    @property
    def sharers(self) -> int:
        """Number of tasks that share the memory of one device."""
        if self.gpus_per_task:
            return max(int(1 / self.gpus_per_task), 1)
        return max([self._room(node) for node in self.nodes] + [1])

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ray's reference to what a function will return from a worker."""
        remote = self.ray.remote(function).options(
            num_cpus=self.cpus_per_task,
            num_gpus=self.gpus_per_task,
            max_retries=0,  # `RaySegmentRunner` counts, reports and bounds retries
        )
        return remote.remote(*arguments)

    def next_rank(self) -> int:
        """The rank of one more video: earlier ones are served first."""
        return next(self._ranks)

    def map(self, function: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """function(item) for each, in parallel threads: videos that share the cluster.

        While the last segments of one video are computed, or it is joined and verified, the next
        has begun. This thread only waits, because what a signal raises would be lost in one of
        Ray's finalizers.
        """
        with ThreadPoolExecutor(min(len(items), VIDEOS_AT_ONCE)) as pool:
            try:
                futures = [pool.submit(function, item) for item in items]
                return [future.result() for future in futures]
            except BaseException:
                self.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stop(self) -> None:
        """Stop all videos; what is finished is kept."""
        self.stopped.set()


def _validate_local(cpus: int | None, gpus: float) -> None:
    """Raise UsageError if a task needs more than this machine has."""
    if cpus is not None and cpus > (available := usable_cpus()):
        raise UsageError(
            f"cpus_per_task={cpus}: this machine has {available}, and a local cluster cannot "
            "scale up."
        )
    if gpus and not cuda_available():
        raise UsageError(
            f"gpus_per_task={gpus:g}: this machine has no GPU that PyTorch can use, and a local "
            "cluster cannot scale up."
        )


def _has_token() -> bool:
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    return named or Path("~/.ray/auth_token").expanduser().exists()


def _status_without_token(grpc: Any, address: str) -> Any:
    """The gRPC status of the answer to a driver without a token; OK: it needs none."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(CLUSTER_ID)(b"", timeout=HELLO_SECONDS)
        except grpc.RpcError as e:
            return e.code()
    return grpc.StatusCode.OK
