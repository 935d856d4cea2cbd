"""What users meet on a terminal: options of commands, printed rows, log lines, the progress of long work."""
