"""Aggregations: the functions that may stand on the right of `@m = …` (reference part 2, section 3)."""
