"""The data path, composed: whole jobs, and the steps one at a time.

In: what a user has and asks for. Out: files and a report. ``compress``, ``compare``, ``sweep`` and ``inspect`` are what
the commands call. May import everything but the command line.
"""
