"""Metrics of frames and videos, in NumPy where possible; each module names its papers."""
