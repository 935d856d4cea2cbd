"""Recall: channels that propose items to users, merged into the day's candidates, and measured."""
