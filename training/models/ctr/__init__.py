"""Click models over fields and numbers, some with a history: from logistic regression to attention, a file a paper."""
