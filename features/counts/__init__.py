"""What happened before an example: impressions, clicks and tags by day, and the user's history of choices."""
