"""Benchmarks: pytrace beside another tracer of the language, on the same work in the same run. See docs/performance.md."""
