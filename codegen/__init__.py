"""From the Plan to a BPF object (floor 2): the only place that knows LLVM."""

assert __name__ == "pytrace.codegen", "import pytrace.codegen, not codegen"
