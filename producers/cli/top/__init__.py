"""`conveyor top`: what is going on now, on one screen.

`frame` is what one look at Redis told, `reading` looks, `screen` draws, `live` keeps it going.
"""
