"""Builtin values: one class for each word (reference part 2, section 1)."""

from pytrace.language.builtins import configuration, cpu, dwstack, family, probe, stacks, task, time

__all__ = ["configuration", "cpu", "dwstack", "family", "probe", "stacks", "task", "time"]
