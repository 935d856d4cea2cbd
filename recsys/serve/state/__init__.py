"""State of a server: arrays of one published version in files, which all workers map into memory."""
