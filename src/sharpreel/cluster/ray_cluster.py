"""Connects to a Ray cluster: capacity, slots, and what can go wrong."""

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
CONNECTING = 3  # times that a driver asks a client server for its process
SLOW_START = "Initialization failure from server"  # what the client says when that was too slow
OWN_STORE_BYTES = 256 << 20  # a cluster that we start is one machine: frames are read by path
WARNING = (
    "starting Ray on this machine; while it runs it listens on every network interface, and who "
    "reaches it can run code. Use it in a private network only."
)
RAY_SETTINGS = {  # read when Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",  # it would send statistics of its use to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # it would start one here when that of --cluster is lost
    "GRPC_VERBOSITY": "ERROR",  # it would say that this process has threads
}
CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # what every driver asks first
HELLO_SECONDS = 10.0  # for a connection, and for the answer to it
START_ONE = "Start one with `ray start --head`, or use --cluster local."
OTHER_PORT = "`ray start --head` says its port; that of ray:// is --ray-client-server-port, 10001."
GIVE_TOKEN = "Is its token in RAY_AUTH_TOKEN or ~/.ray/auth_token here? See docs/cluster.md."


# On the driver -----------------------------------------------------------------------------------


class Slots:
    """How many segments may be given out at a time; films that came first are served first.

    Args:
        limit: Says how many, each time anew: a cluster grows and shrinks.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit, self.taken = limit, 0
        self._waiting: list[int] = []
        self._changed = threading.Condition()

    def take(self, rank: int, timeout: float) -> bool:
        """Wait for a slot; False when there was none in time."""
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
    """A Ray cluster that films are made on; a context manager.

    Args:
        address: "auto" (the cluster this machine belongs to), "ray://HOST:PORT", or "local": one
            is started on this machine and ends with the context.
        cpus_per_task: Processors for each segment that is made; by default 2, or what there is.
        gpus_per_task: GPUs for each; 0.25 lets four tasks share one.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: No such cluster, it cannot be reached, or a task has no room on this machine.
    """

    def __init__(
        self, address: str = "auto", cpus_per_task: int | None = None, gpus_per_task: float = 0
    ) -> None:
        if address not in ("auto", "local") and not address.startswith("ray://"):
            raise UsageError(f"--cluster {address}: write auto, local or ray://HOST:PORT.")
        if cpus_per_task is not None and cpus_per_task < 1:
            raise UsageError(f"--cpus-per-task must be 1 or more, got {cpus_per_task}.")
        if gpus_per_task < 0 or (gpus_per_task > 1 and gpus_per_task != int(gpus_per_task)):
            raise UsageError(f"--gpus-per-task {gpus_per_task}: a share of one, or a whole number.")
        if address == "local":
            _check_room(cpus_per_task, gpus_per_task)
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
            answers = self._ours and self._knock(grpc)
            import ray
        except ImportError as e:
            raise MissingExtra("--cluster", "cluster") from e
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
                f"--gpus-per-task {self.gpus_per_task:g}: this machine has fewer GPUs, and a local "
                "cluster does not grow."
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
                    num_cpus=usable_cpus(), include_dashboard=False,
                    object_store_memory=OWN_STORE_BYTES, **quietly,
                )  # fmt: skip
            else:
                self._join(quietly)
        except Exception as e:  # Ray raises of many kinds here
            raise self._unreachable(e, advice) from e

    def _join(self, quietly: dict[str, Any]) -> None:
        """Connect to a cluster that is there.

        A client server starts a process for each driver and does not wait long for it: on a busy
        machine the second or third one is in time.
        """
        for left in reversed(range(CONNECTING)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # ray:// warns of what it raises too
                    self.ray.init(address=self.address, **quietly)
                return
            except Exception as e:
                if not left or SLOW_START not in str(e):
                    raise

    def _knock(self, grpc: Any) -> bool:
        """Did it answer? False where only Ray knows the address.

        Sets the variable that makes Ray send a token, before Ray is imported and reads it: a
        driver that is given an address does not look for one, and in a cluster without tokens the
        workers cannot reach a driver that wants them.

        Raises:
            UsageError: Nobody listens there, and Ray would end this process; it is not Ray, for
                which that would wait for minutes; it asks for a token and there is none.
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
        said = _said_of_its_id(grpc, f"{host}:{port}")
        if said in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise self._unreachable("what listens there is not Ray", OTHER_PORT)
        if said != grpc.StatusCode.OK and _has_token():
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        elif said == grpc.StatusCode.UNAUTHENTICATED:
            raise self._unreachable("it asks for a token", GIVE_TOKEN)
        return True

    def _unreachable(self, cause: Exception | str, advice: str) -> UsageError:
        reason = " ".join(str(cause).split())[:160] or type(cause).__name__
        return UsageError(
            f"--cluster {self.address}: no Ray cluster can be reached there ({reason}). {advice}"
        )

    @property
    def capacity(self) -> int:
        """Segments that can be made at once, now."""
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
        """Tasks that share the memory of one device."""
        if self.gpus_per_task:
            return max(int(1 / self.gpus_per_task), 1)
        return max([self._room(node) for node in self.nodes] + [1])

    def task(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ray's reference to what a function of this module will return from a worker."""
        remote = self.ray.remote(function).options(
            num_cpus=self.cpus_per_task,
            num_gpus=self.gpus_per_task,
            max_retries=0,  # retries are counted, told and bounded by `RaySegmentRunner`
        )
        return remote.remote(*arguments)

    def next_rank(self) -> int:
        """The place in line of one more video: those that came first are served first."""
        return next(self._ranks)

    def map(self, do: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """do(item) of each, side by side, in threads: films that share the cluster.

        While one film's last segments are made, or it is joined and verified, the next has begun.
        This thread only waits, as what a signal raises would be lost in a finalizer of Ray's.
        """
        with ThreadPoolExecutor(min(len(items), VIDEOS_AT_ONCE)) as pool:
            try:
                futures = [pool.submit(do, item) for item in items]
                return [future.result() for future in futures]
            except BaseException:
                self.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stop(self) -> None:
        """Let all films end; what is finished is kept."""
        self.stopped.set()


def _check_room(cpus: int | None, gpus: float) -> None:
    """Raise UsageError where a task asks for more than this machine has."""
    if cpus is not None and cpus > (there := usable_cpus()):
        raise UsageError(
            f"--cpus-per-task {cpus}: this machine has {there}, and a local cluster does not grow."
        )
    if gpus and not cuda_available():
        raise UsageError(
            f"--gpus-per-task {gpus:g}: this machine has no GPU that torch can use, and a local "
            "cluster does not grow."
        )


def _has_token() -> bool:
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    return named or Path("~/.ray/auth_token").expanduser().exists()


def _said_of_its_id(grpc: Any, address: str) -> Any:
    """The gRPC status with which it answers a driver without a token; OK: it needs none."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(CLUSTER_ID)(b"", timeout=HELLO_SECONDS)
        except grpc.RpcError as e:
            return e.code()
    return grpc.StatusCode.OK
