"""What a run says about itself, in words, tables and pictures.

In: plain data from :mod:`~topocompress.types`. Out: sentences, ``report.html``, ``.md``, ``.json``, plots. May import
all packages that the data path has passed so far; the only user of Jinja and matplotlib.
"""
