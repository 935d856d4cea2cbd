"""Looks up what was promoted for a user."""
