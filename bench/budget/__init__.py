"""Is the budget kept, and is it used? Real processes on one bucket, beside simpler ways to share a rate."""
