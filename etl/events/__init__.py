"""Events of the site (impressions, clicks, likes, purchases): JSON lines into facts, and the daily click rate."""
