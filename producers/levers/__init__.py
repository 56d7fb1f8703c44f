"""What operators can do about a running installation: one file for each lever.

Each is one Lua script that changes the state and writes the audit (`conveyor:audit`) in the same call; what needs several
calls says what a repeat does. The command line (`producers/cli`) is a thin face of them.
"""
