"""Every builtin, function, aggregation and probe type of the language: one class per feature (floor 3).

Importing this package fills `pytrace.grammar.spec.REGISTRY`.
"""

from pytrace.language import aggregations, builtins, functions, probes, values

__all__ = ["aggregations", "builtins", "functions", "probes", "values"]
