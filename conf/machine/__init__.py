"""The machine that a command runs on: its processes, and who can reach what they listen at."""
