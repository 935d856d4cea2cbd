"""Finished run folders (metrics, trials, predictions, promoted lists) into warehouse tables, each run exactly once."""
