"""Values whose meaning only user space can show: symbols, addresses, accounts, times."""
