"""`python -m framework`."""

from framework.inspection.cli import main

if __name__ == "__main__":
    main()
