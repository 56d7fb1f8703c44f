"""Files: on their way into a run (`uploads.py`), and from a run to a disk (`downloads.py`).

What a file is, is told by its first bytes (`kinds.py`), never by what somebody says of it.
"""
