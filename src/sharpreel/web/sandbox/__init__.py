"""Child processes that open untrusted files, with limits on time and memory."""
