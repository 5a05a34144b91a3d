"""`python -m minihv`."""

from minihv.cli.start import main

if __name__ == "__main__":
    main()
