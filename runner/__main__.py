"""`python -m runner` runs the command `judge-runner`."""

from runner.cli import main

if __name__ == "__main__":
    main()
