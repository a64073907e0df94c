"""The types of probe, one class each."""
