"""Copies of what jobs made, for as long as the operator likes: the API's own addresses last an hour.

`archive.py` says what is kept and under which names; `folder.py` and `s3.py` are the two places it may be in. When copies
are made is decided in `tasks/archiving.py` (decision 13).
"""
