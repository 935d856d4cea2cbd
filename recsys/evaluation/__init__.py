"""Offline evaluation of the whole recommender by any split of the data."""
