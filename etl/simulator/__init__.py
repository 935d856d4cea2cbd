"""A generated site with known click probabilities: users, items, events, texts, web logs, images and a database."""
