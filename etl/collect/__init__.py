"""Collection (W1): log files of a machine followed into the landing zone, no line lost and none twice."""
