"""What does the catalog save, and who waits for it? Ours beside two simpler designs; begin with `__main__.py`."""
