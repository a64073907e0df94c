"""From program text to a typed program and its Plan (floors 0 and 1)."""

assert __name__ == "pytrace.grammar", "import pytrace.grammar, not grammar: a second set of classes is unequal"
