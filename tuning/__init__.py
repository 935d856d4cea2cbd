"""Searches over the settings of anything below: rankers, recall channels and deep models."""
