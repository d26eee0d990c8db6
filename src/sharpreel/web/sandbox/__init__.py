"""Child processes that open files of strangers."""
