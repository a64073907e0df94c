"""`python -m pytrace`."""

from pytrace.cli import run

run()
