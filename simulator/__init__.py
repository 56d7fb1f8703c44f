"""Where can I try a client of ComfyUI Deploy without a GPU, an account or a bill?

Here: `python -m simulator`. A program of its own that behaves like the API as it was observed, odd answers included.

It imports nothing of the rest of this repository on purpose. It is a second reading of the same API; if it shared code
with the client, both could be wrong in the same way and every test would still pass.

Read next: `app.py` (how the parts hang together), `engine.py` (the life of a run), `faults.py` (what can go wrong).
"""
