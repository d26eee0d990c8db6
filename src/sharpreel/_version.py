"""The version of the package, here alone: it needs no other module."""

__version__ = "0.1.0"
