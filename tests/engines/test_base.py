"""The kind of an engine and its name."""

from __future__ import annotations

import pytest

from sharpreel.engines.base import EngineKind

NAMES = {
    EngineKind("openvino"): "openvino",
    EngineKind("openvino", precision="int8"): "openvino-int8",
    EngineKind("torch"): "torch-cpu",
    EngineKind("torch", "cuda"): "torch-cuda",
    EngineKind("torch", "cuda", "float16"): "torch-cuda-float16",
}


@pytest.mark.parametrize("kind", NAMES, ids=lambda kind: kind.name)
def test_a_name_is_the_kind_and_can_be_parsed(kind: EngineKind) -> None:
    assert kind.name == NAMES[kind]
    assert EngineKind.parse(kind.name) == kind
    assert EngineKind.parse(f"{kind.name}-batch4") == kind
