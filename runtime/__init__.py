"""The kernel side of a run (floor 2): what this machine has, loading, attaching, reading."""

assert __name__ == "pytrace.runtime", "import pytrace.runtime, not runtime"
