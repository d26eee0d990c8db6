"""Measure models on clips with a known ground truth, and compare videos with each other."""
