"""Raw text files as numbered lines: which files there are, copies among them, reading, line numbers."""
