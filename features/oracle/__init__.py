"""What a generated day knows and no real one does: what a model can reach at best, and what each list is worth."""
