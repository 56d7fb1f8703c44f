"""What workers do with a job: submit it, look at its run, cancel it, close its row.

Read in order: `submit`, `adopt`, `search`, `look`, `reading`, `apply`, `outputs`, `schedule`, `cancel`, `fail`, `closing`. `engine` is what they all
work with.
"""
