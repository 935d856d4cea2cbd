"""Networks that read a text and name the topic of a title."""
