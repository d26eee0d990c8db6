"""How much memory there is, and how much a network takes for a frame of some size.

Both answers decide whether a frame goes through a network whole or in tiles (`windows.tiles`).
Nothing is allocated to find out: torch runs the network on tensors without contents, and a saved
graph is walked through.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharpreel import cgroups
from sharpreel.errors import UsageError

if TYPE_CHECKING:
    import openvino as ov

SHARE = 0.7  # of what is free that a network may take; decoder, encoder and others need some
SCRATCH = 1.3  # convolutions take scratch space beside their inputs and outputs
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def bytes_of(text: str | float | None) -> int | None:
    """Bytes from 6000000000, "800M" or "4.5G" (also MiB, GB: units of 1024).

    Raises:
        UsageError: Not an amount of memory.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?", str(text).strip(), re.IGNORECASE)
    amount = float(match[1]) * UNITS[match[2].upper()] if match else 0
    if amount < 1 << 20:
        raise UsageError(f"{text!r} is not an amount of memory; write 800M or 4G, and at least 1M.")
    return round(amount)


def free_bytes() -> int | None:
    """Memory that this process can still get, in bytes; None where the system does not tell.

    Linux: what is available without swapping, and not more than the process's own limits and its
    container's leave.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    found = []
    try:
        with open("/proc/meminfo") as file:
            found += [
                int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable")
            ]
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    left = cgroups.free_bytes()
    if left is not None:
        found.append(left)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        found.append(max(limit - used, 0))
    return min(found, default=None)


def peak_memory_mb() -> int | None:
    """The most memory this process has held, in MiB; None where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:  # what `resource` says counts in the process that began this one
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / (1 << 10))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def torch_bytes(call: Callable[[], Any]) -> int:
    """The most bytes that the tensors made by `call` hold at one time, none of them made for real.

    Args:
        call: Runs a network on tensors it makes itself with torch's functions.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Counts a storage when it is first seen and forgets it when the last tensor of it goes."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.live = self.peak = 0
            self.known: set[int] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    self.count(tensor.untyped_storage())
            return made

        def count(self, storage: Any) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key in self.known:
                return
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.forget, key, size)

        def forget(self, key: int, size: int) -> None:
            self.known.discard(key)
            self.live -= size

    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), Peak() as peak:
        call()
    return int(peak.peak * SCRATCH)


def graph_bytes(graph: ov.Model) -> int:
    """The most bytes that a graph of static shapes holds at one time, its constants aside.

    Operations run in order, and what one makes lives until the last that reads it.
    """
    order = [op for op in graph.get_ordered_ops() if op.get_type_name() != "Constant"]
    last = {
        value.get_node().get_name(): k
        for k, op in enumerate(order)
        for value in (port.get_source_output() for port in op.inputs())
    }
    live = peak = 0
    ends: dict[int, int] = {}
    for k, op in enumerate(order):
        size = sum(map(_bytes, op.outputs()))
        live += size
        peak = max(peak, live)
        end = last.get(op.get_name(), k)
        ends[end] = ends.get(end, 0) + size
        live -= ends.pop(k, 0)
    return round(peak * SCRATCH)


def _bytes(port: Any) -> int:
    return int(math.prod(port.get_shape()) * port.get_element_type().size)
