"""Measures networks and videos."""
