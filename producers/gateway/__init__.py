"""The front door by HTTP: jobs in, events out as Server-Sent Events, and ComfyUI Deploy's webhooks.

    python -m producers.gateway        # on $PORT, 8000

A request goes through `door.py` (who may come in at all, how much he may bring), `access.py` (which frontend his key is),
`rates.py` (how often), one of `routes/`, and leaves as a model of `models.py` or a document of `problems.py`. Live events
come through one reader of the result streams, `feed.py`; `told.py` joins what is past to what comes.

The gateway keeps nothing: every answer is in Redis, so any number of them can stand side by side and end at any time.
"""
