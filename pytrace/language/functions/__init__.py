"""Functions: one class for each name (reference part 2, section 2)."""
