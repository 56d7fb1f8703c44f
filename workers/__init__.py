"""Processes: the Celery app, its settings, start and stop, the ticker, Flower's configuration.

`celery -A workers worker` starts here; read `celery`, `start`, `ticker`, `upkeep`.
"""
