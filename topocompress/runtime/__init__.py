"""What any program needs, and nothing about networks: files, memory and processes, progress, compiled functions.

In: paths, bytes, functions. Out: files written whole or not at all, work spread over processes. May import
:mod:`~topocompress.errors`; the only user of joblib, Dask, threadpoolctl and psutil.
"""
