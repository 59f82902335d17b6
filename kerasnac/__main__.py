"""``python -m kerasnac``."""

from kerasnac.faces.cli import main

if __name__ == "__main__":
    main()
