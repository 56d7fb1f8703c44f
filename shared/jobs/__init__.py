"""The job: what a user asked for, from ask to final state.

Read in order: `states`, `request`, `event`, `record`, `store`, `lanes`.
"""
