"""Streaming (W14): the hottest topics and products over sliding windows, into Hive tables."""
