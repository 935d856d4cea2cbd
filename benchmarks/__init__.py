"""Measurements: `python -m benchmarks.NAME [--scale S]` prints a table, and as its last line one JSON object."""
