"""``python -m topocompress``."""

from topocompress.cli import main

main()
