"""Aggregations: the functions that may stand on the right of `@m = …` (reference part 2, section 3)."""

from pytrace.language.aggregations import histograms, numbers, timeseries

__all__ = ["histograms", "numbers", "timeseries"]
