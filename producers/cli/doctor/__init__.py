"""`conveyor doctor`: what is wrong, and what would make it right?

Start at `examine.py`, which says in what order is asked; each file beside it asks about one thing.
"""
