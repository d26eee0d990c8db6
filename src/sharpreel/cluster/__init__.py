"""The same run on many machines, through Ray."""
