"""Engines run a network on integer frames and keep its state from frame to frame."""
