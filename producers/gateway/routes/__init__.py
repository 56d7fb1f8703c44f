"""The routes, a file for each thing one can ask about."""
