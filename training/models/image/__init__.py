"""Convolutional networks that name the topic of a cover, as published but for the size of their images."""
