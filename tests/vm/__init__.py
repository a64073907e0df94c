"""Other kernels: see README.md."""
