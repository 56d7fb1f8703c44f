"""What does it cost to hear early? Calls per finished job against the delay of the news, for ours and others' policies.

`python -m bench.looks` plays everything in virtual time, with the product's own schedule and forecast.
"""
