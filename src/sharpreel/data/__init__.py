"""Clips for training and evaluation: find, download, harvest, degrade, store and sample them."""
