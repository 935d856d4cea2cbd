"""Collection (W1): log files of a host followed into the landing zone, no line lost and none twice."""
