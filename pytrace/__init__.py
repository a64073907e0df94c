"""pytrace: a tracing tool for Linux with the language of bpftrace."""
