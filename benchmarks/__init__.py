"""A folder for each study: ``python -m benchmarks`` lists them, ``python -m benchmarks.NAME`` runs one."""
