"""The settings of the `config` block and of the environment (reference part 2, section 12)."""

from __future__ import annotations

from pytrace.grammar.data import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration; names, defaults and meanings as in the reference."""

    cache_user_symbols: str = "PER_PID"
    cpp_demangle: bool = True
    dummy_ts_map: str = ""  # of the environment only
    lazy_symbolication: bool = True
    license: str = "GPL"
    log_size: int = 1_000_000
    max_bpf_progs: int = 1024
    max_cat_bytes: int = 10240
    max_map_keys: int = 4096
    max_probes: int = 1024
    max_strlen: int = 1024
    missing_probes: str = "error"
    on_stack_limit: int = 32
    perf_rb_pages: int = 0
    print_maps_on_exit: bool = True
    show_debug_info: bool = False
    stack_mode: str = "bpftrace"
    str_trunc_trailer: str = ".."
    unstable_tseries: str = "warn"
    unstable_dw_ustack: str = "warn"
    unstable_typeinfo: str = "error"
    unstable_import_statement: str = "error"
    use_blazesym: bool = False
