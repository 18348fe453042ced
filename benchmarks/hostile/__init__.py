"""Commands on hostile inputs: nothing of theirs runs, nothing is lost, and what is refused is told in a sentence.

    python -m benchmarks.hostile [KIND ...]

Takes ten minutes on two cores, for each case starts a command of its own, bounded in time and memory.

Each case of the table (``cases``) is one command in a folder (``place``) with a small network, photographs, a project
and files made to harm. After it everything that was there must be there, unchanged; no file of the attacker's may have
been made; no staging folder may be left.
"""
