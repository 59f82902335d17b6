"""``python -m kerasnac``."""

from kerasnac.ui.cli import main

if __name__ == "__main__":
    main()
