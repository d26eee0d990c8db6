"""Searches the settings of a recipe."""
