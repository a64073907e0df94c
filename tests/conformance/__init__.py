"""Which features of the language pass a test: the list of features, and the table in docs/conformance.md."""
