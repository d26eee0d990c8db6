"""Metrics of frames and videos."""
