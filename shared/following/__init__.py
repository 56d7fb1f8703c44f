"""Which runs are in flight, and when is each worth a look?"""
