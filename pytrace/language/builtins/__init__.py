"""Builtin values: one class for each word (reference part 2, section 1)."""
