"""VMAF of the frames that a protocol counts."""

from __future__ import annotations

from pathlib import Path

from tests.support.evaluation import lossless, run_benchmark
from tests.support.videos import moving


def test_vmaf_is_measured_on_the_counted_frames(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving((192, 144), 5))
    result = run_benchmark([], path, temporal=False, vmaf=True, protocol="P1").clips[0].results[0]
    assert result.vmaf is not None
    assert result.vmaf_neg is not None
    assert 0 < result.vmaf_neg <= result.vmaf + 1e-6 <= 100
