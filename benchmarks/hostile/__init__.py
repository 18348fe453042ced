"""Commands on hostile inputs, and killed ones: nothing of theirs runs, nothing is lost, refusals are sentences.

    python -m benchmarks.hostile [KIND ...] [--results benchmarks/results/hostile.json]

Takes ten minutes on two cores for the inputs, and forty for ``kills together poison``: each starts a command of its
own, bounded in time and memory. With ``--results`` it goes on where it was stopped.

Each case of the table (``cases``) is one command in a folder (``place``) with a small network, photographs, a project
and files made to harm. After it everything that was there must be there, unchanged; no file of the attacker's may have
been made; no staging folder may be left.

``kills`` sends SIGKILL, SIGTERM and SIGINT to ``prune --finetune``, ``compare`` and ``sweep`` at random moments,
continues them, and holds every file that they deliver, without times, against that of a run which nobody disturbed.
``together`` runs two at once, into one cache and into one place; ``poison`` spoils what caches keep.
"""
