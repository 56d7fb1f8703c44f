"""Break Conveyor on purpose, with real processes, and count what became of the jobs: `make chaos SECONDS=120 SEED=1`.

Read in order: `plan` (which fault when), `site` (the processes), `crowd` (the users), `injector` (how a fault is done),
`wards` (how long the jobs of a killed worker stand still), `evidence` and `scorecard` (what is counted, and its limits),
`session` (all of it, once).
"""
