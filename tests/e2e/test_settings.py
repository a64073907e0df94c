"""What settings and environment variables change in a run (reference part 2, section 12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.api import Trace
from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.settings import SettingError
from pytrace.options import Options
from pytrace.runtime.bpf_object import LoadError
from pytrace.runtime.elf import ElfFile
from tests.e2e.conftest import Runner
from tests.e2e.programs import begin, run
from tests.fakehost import FakeHost

pytestmark = pytest.mark.root
tag = pytest.mark.tag


def with_setting(setting: str, text: str) -> str:
    return f"config = {{ {setting} }} {text}"


# ---------------------------------------------------------------- settings


@tag("cfg.license")
def test_the_license_is_that_of_the_object(tmp_path: Path) -> None:
    file = tmp_path / "object"
    for setting, text in {"license = GPL": "GPL", 'license = "Dual MIT/GPL"': "Dual MIT/GPL"}.items():
        file.write_bytes(compile_text(with_setting(setting, "begin { }"), host=FakeHost()).elf)
        with ElfFile(str(file)) as elf:
            (section,) = [s for s in elf.sections if s.name == "license"]
            assert file.read_bytes()[section.offset :][: section.size] == text.encode() + b"\0"
    with pytest.raises(CompileError, match=r"Invalid value for license. Found: MIT. Valid values: GPL, "):
        compile_text(with_setting("license = MIT", "begin { }"), host=FakeHost())


@tag("cfg.log_size")
def test_the_size_of_the_log() -> None:
    text, options = "begin { @a[1] = 1; print(@a); }", Options(stages=frozenset({"verifier"}))
    with pytest.raises(LoadError) as caught, Trace(with_setting("log_size = 1000", text), options=options):
        pass
    assert caught.value.truncated
    assert len(caught.value.log) == 999
    with Trace(with_setting("log_size = 100000", text), options=options) as trace:
        (log,) = trace.tracer.verifier_logs.values()
    assert len(log) > 1000


@tag("cfg.max_bpf_progs", "err.ap.limit")
def test_a_limit_of_programs() -> None:
    text = "begin { } end { } interval:s:1 { }"
    compile_text(with_setting("max_bpf_progs = 3", text), host=FakeHost())
    with pytest.raises(CompileError, match=r"more than 2 BPF programs.*limit of 2") as caught:
        compile_text(with_setting("max_bpf_progs = 2", text), host=FakeHost())
    assert "MAX_BPF_PROGS" in str(caught.value).upper()


@tag("cfg.max_cat_bytes")
def test_how_much_cat_shows(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("0123456789")
    text = f'begin {{ cat("{file}"); }}'
    assert run(with_setting("max_cat_bytes = 4", text), unsafe=True).text == "0123"
    assert run(text, unsafe=True).text == "0123456789"


@tag("cfg.on_stack_limit")
def test_what_stays_on_the_stack() -> None:
    """Larger values go to a map of scratch memory."""
    text = 'begin { $s = (string[32])"abc"; print($s); }'
    for limit, on_stack in ((16, False), (256, True)):
        plan = compile_text(with_setting(f"on_stack_limit = {limit}", text), host=FakeHost()).plan
        assert any(m.symbol == "scratch" for m in plan.maps) != on_stack
        assert run(with_setting(f"on_stack_limit = {limit}", text)).text == "abc\n"


@tag("cfg.perf_rb_pages")
def test_the_size_of_the_ring_buffer() -> None:
    for pages in (4, 16):
        with Trace(with_setting(f"perf_rb_pages = {pages}", "begin { print(1); }")) as trace:
            assert trace.tracer._object.map_entries("events") == pages * 4096


@tag("ev.size")
def test_the_size_of_the_ring_buffer_by_memory() -> None:
    """The power of two closest to 16544 kB, where so much memory is free."""
    with Trace("begin { print(1); }") as trace:
        assert trace.tracer._object.map_entries("events") == 16384 * 1024


@tag("cfg.lazy_symbolication", "cfg.use_blazesym", "cfg.show_debug_info")
@pytest.mark.parametrize("name", ["lazy_symbolication", "use_blazesym", "show_debug_info"])
def test_settings_of_another_symboliser(name: str) -> None:
    """They are taken, and change nothing: pytrace has a symboliser of its own, which always works on demand."""
    text = "begin { print(kstack(raw) != kstack(raw)); }"
    assert {run(with_setting(f"{name} = {value}", text)).text for value in ("true", "false", "1")} == {run(text).text}
    with pytest.raises(CompileError, match=f"{name}: Invalid bool value: valid values are true, false, 1 or 0."):
        compile_text(with_setting(f"{name} = maybe", "begin { }"), host=FakeHost())


@tag("cfg.old")
def test_old_names() -> None:
    made = run("config = { strlen = 6; cat_bytes_max = 1; map_keys_max = 2; no_cpp_demangle = 1 }"
               'begin { print(sizeof(str((uint64)1))); @[1] = 1; }')  # fmt: skip
    assert made.text == "6\n"
    new = ("max_strlen", "max_cat_bytes", "max_map_keys", "cpp_demangle")
    old = ("strlen", "cat_bytes_max", "map_keys_max", "no_cpp_demangle")
    assert made.words[:4] == [f"{a} has been renamed, please use {b}" for a, b in zip(old, new, strict=True)]
    for name in ("symbol_source", "max_type_res_iterations", "unstable_macro", "unstable_import", "unstable_addr"):
        assert run(f"config = {{ {name} = 1 }} begin {{ }}").words == [f"{name} is deprecated and has no effect"]


# ---------------------------------------------------------------- environment


@tag("cli.btf")
def test_an_option_without_effect(run: Runner) -> None:
    assert run("-b", "-q", "--btf", "-e", "begin { print(1); }").stdout == "1\n\n\n"


@tag("env.BTF")
def test_a_file_with_btf(run: Runner, tmp_path: Path) -> None:
    text = 'begin { printf("%d\\n", sizeof(struct task_struct) > 100); }'
    copy, part = tmp_path / "copy", tmp_path / "part"
    copy.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    part.write_bytes(copy.read_bytes()[:100_000])
    assert run("-q", "-e", text, env={"BPFTRACE_BTF": str(copy)}) == ("1\n\n\n", "", 0)
    for path in (part, tmp_path / "none"):
        warning = f"WARNING: BTF: failed to parse BTF from {path}\n"
        assert run("-q", "-e", "begin { }", env={"BPFTRACE_BTF": str(path)}).stderr == warning
        refused = run("-q", "-e", text, env={"BPFTRACE_BTF": str(path)})
        assert refused.status == 1
        assert warning in refused.stderr
        assert 'Cannot resolve unknown type "struct task_struct"' in refused.stderr


@tag("env.KERNEL")
def test_trees_of_kernel_headers(run: Runner, tmp_path: Path) -> None:
    for name, text in {
        "source/include/linux/kconfig.h": "#define FROM_KCONFIG 1",
        "source/include/linux/mine.h": "#define FROM_SOURCE 20",
        "build/include/generated/uapi/linux/made.h": "#define FROM_BUILD 300",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    environment = {
        "BPFTRACE_KERNEL_SOURCE": str(tmp_path / "source"), "BPFTRACE_KERNEL_BUILD": str(tmp_path / "build"),
    }  # fmt: skip
    text = "#include <linux/mine.h>\n#include <linux/made.h>\nbegin { print(FROM_KCONFIG + FROM_SOURCE + FROM_BUILD); }"
    assert run("-q", "-e", text, env=environment) == ("321\n\n\n", "", 0)
    missing = run("-q", "-e", text, env={**environment, "BPFTRACE_KERNEL_BUILD": "/no/such"})
    assert "'linux/made.h' file not found" in missing.stderr


@tag("env.clang")
@pytest.mark.parametrize("variable", ["CPATH", "C_INCLUDE_PATH"])
def test_folders_of_headers(run: Runner, tmp_path: Path, variable: str) -> None:
    (tmp_path / "mine.h").write_text("#define MINE 42\n")
    text = "#include <mine.h>\nbegin { print(MINE); }"
    assert run("-q", "-e", text, env={variable: str(tmp_path)}) == ("42\n\n\n", "", 0)
    assert run("-q", "-e", text).status == 1


@tag("cli.I", "cli.include")
def test_headers_in_their_order(run: Runner, tmp_path: Path) -> None:
    """The folders of -I are searched in order; headers of --include come first, in order."""
    for folder, value in {"a": 1, "b": 2}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.h").write_text(f"#define X {value}\n")
    (tmp_path / "first.h").write_text("#define FIRST 10\n")
    (tmp_path / "second.h").write_text("#define SECOND (FIRST + X)\n#ifndef X\n#error too early\n#endif\n")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    text = "begin { print((X, SECOND)); }"
    for folders, x in (((a, b), 1), ((b, a), 2)):
        words = [word for folder in folders for word in ("-I", folder)]
        headers = ["--include", f"{tmp_path}/first.h", "--include", "x.h", f"--include={tmp_path}/second.h"]
        assert run("-q", *words, *headers, "-e", text) == (f"({x}, {10 + x})\n\n\n", "", 0)


@tag("env.dummy-ts")
def test_a_map_in_place_of_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPFTRACE_DUMMY_TS_MAP", "@ts")
    assert begin("@ts = (uint64)5; print((nsecs, nsecs(monotonic))); @ts = 7; print(nsecs);") == "(5, 5) 7"
    with pytest.raises(SettingError, match="no map @ts"):
        begin("print(nsecs); @other = 1;")


@tag("lex.string.limit", "cfg.max_strlen")
def test_formats_and_names_may_be_longer_than_strings() -> None:
    text = """begin {
        printf("a format of any length %d\\n", 1); time("no time to lose\\n"); cat("/proc/sys/kernel/ostype");
        print(strftime("a long time", nsecs)); print(ksym(kaddr("vfs_read"))); assert(true, "x");
    }"""
    shown = run(with_setting("max_strlen = 5", text)).text
    assert shown == "a format of any length 1\nno time to lose\nLinux\na long time\nvfs_read\n"
    for body in ('printf("%s", "value")', 'print(getopt("a", "value"))', 'print("value")'):
        with pytest.raises(CompileError, match=r"String is too long \(over 4 bytes\): value"):
            compile_text(with_setting("max_strlen = 5", f"begin {{ {body}; }}"), host=FakeHost())
