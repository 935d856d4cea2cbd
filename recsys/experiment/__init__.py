"""Reading of A/B experiments: `millrace experiment read`."""
