"""`python -m runner` is `judge-runner`."""

from runner.cli.commands import main

if __name__ == "__main__":
    main()
