"""Lines of `batches.jsonl`."""

from __future__ import annotations

from typing import Any


def batch(step: int, psnr: float, at: float = 0.0) -> dict[str, Any]:
    return {"step": step, "steps": 1, "psnr": psnr, "bicubic_psnr": psnr - 1, "time": at}


def scored(step: int, number: int, psnr: float, at: float = 0.0) -> dict[str, Any]:
    clip = {"clip": f"c{number}", "number": number, "of": 2}
    return {"step": step, **clip, "psnr": psnr, "bicubic_psnr": 30.0, "time": at}
