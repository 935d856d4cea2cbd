"""Formats of web logs: what a line of each is, which formats a file has, and lines -> requests in Spark."""
