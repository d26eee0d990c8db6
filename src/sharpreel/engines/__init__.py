"""Runs a network on integer frames and carries its state."""
