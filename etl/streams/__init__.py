"""Streaming (W14): rolling counts over sliding windows, into Hive tables."""
