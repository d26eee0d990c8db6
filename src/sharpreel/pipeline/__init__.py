"""The stages of a run, between media and engines."""
