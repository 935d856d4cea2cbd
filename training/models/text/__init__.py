"""Recurrent networks that name the topic of a title."""
