"""Estimates how much memory a network needs for a frame, without allocating it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openvino as ov

SCRATCH = 1.3  # convolutions use scratch space beside their inputs and outputs


def torch_bytes(call: Callable[[], Any]) -> int:
    """The most bytes that the tensors created by `call` hold at one time; none is allocated.

    Args:
        call: Runs a network on tensors that it creates itself with PyTorch's functions.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Counts a storage when it first appears, until its last tensor is deleted."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.live = self.peak = 0
            self.known: set[int] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.count(tensor.untyped_storage())
            return result

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
    """The most bytes that a graph of static shapes holds at one time, without its constants.

    Operations run in order, and the output of one lives until the last that reads it.
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
