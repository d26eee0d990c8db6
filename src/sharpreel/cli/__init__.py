"""The `sharpreel` command."""
