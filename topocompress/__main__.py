"""``python -m topocompress``."""

from topocompress.cli import main

if __name__ == "__main__":
    main()
