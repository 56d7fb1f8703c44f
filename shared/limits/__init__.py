"""What may we ask the API, and when? One token bucket per account, shared by all workers."""
