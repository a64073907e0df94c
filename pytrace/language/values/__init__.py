"""Values whose meaning only user space can show: symbols, addresses, accounts, times."""

from pytrace.language.values import accounts, addresses, floats, symbols, timestamp

__all__ = ["accounts", "addresses", "floats", "symbols", "timestamp"]
