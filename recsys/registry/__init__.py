"""The model registry: promotion of a day's models and lists, lineage of runs, and rollback."""
