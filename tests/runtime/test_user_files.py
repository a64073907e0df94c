"""Readable names, files in archives and under other root directories, debug files: the parts, without a kernel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytrace.grammar.host import HostError, Symbol
from pytrace.language.probes.userfunction import has_parameters, spellings, without_parameters
from pytrace.runtime import debugfiles, roots, zipped
from pytrace.runtime.binaries import explain, resolve
from pytrace.runtime.demangle import demangle
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.instructions import starts

tag = pytest.mark.tag

# names that the compiler (1.95) gave to functions of programs, and what they are
RUST = {
    "_RNvCsjMaewn57Afh_1t4main": "t::main",
    "_RNvNtCsjMaewn57Afh_1t5space2dy": "t::space::dy",
    "_RNvMNtCsjMaewn57Afh_1t5spaceINtB2_5PointmE5shiftB4_": "<t::space::Point<u32>>::shift",
    "_RINvNtCsjMaewn57Afh_1t5space4eachNCNvB4_4mains_0EB4_": "t::space::each::<t::main::{closure#1}>",
    "_RINvNtCsjMaewn57Afh_1t5space5konstKjc_Kb1_Kc71_EB4_": "t::space::konst::<12, true, 'q'>",
    "_RINvCsjMaewn57Afh_1t4showDNtNtCsgEmfK2I1SDS_4core3fmt5DebugNtNtBs_6marker4SendEL_EB2_": (
        "t::show::<dyn core::fmt::Debug + core::marker::Send>"
    ),
    "_RINvCsjMaewn57Afh_1t4showFG_RL0_hRL0_eEuEB2_": "t::show::<for<'a> fn(&'a u8, &'a str)>",
    "_RINvCsjMaewn57Afh_1t4showFUKClElEB2_": 't::show::<unsafe extern "C" fn(i32) -> i32>',
    "_RINvCsjMaewn57Afh_1t4showPhEB2_": "t::show::<*const u8>",
    "_RINvCsjMaewn57Afh_1t4showQhEB2_": "t::show::<&mut u8>",
    "_RINvCsjMaewn57Afh_1t4showShEB2_": "t::show::<[u8]>",
    "_RINvCsjMaewn57Afh_1t4showTlReEEB2_": "t::show::<(i32, &str)>",
    "_RNvCsjMaewn57Afh_1tu7frh_ioa": "t::früh",
    "_RNvXs1g_NtCsgEmfK2I1SDS_4core3fmtRTlReENtB6_5Debug3fmtCsjMaewn57Afh_1t": (
        "<&(i32, &str) as core::fmt::Debug>::fmt"
    ),
    "_RNSNvYNCINvNtCsjrHSEGnQ3l9_3std2rt10lang_startuE0INtNtNtCsgEmfK2I1SDS_4core3ops8function6FnOnceuE9call_once"
    "6vtableCsjMaewn57Afh_1t": (
        "<std::rt::lang_start<()>::{closure#0} as core::ops::function::FnOnce<()>>::call_once::{shim:vtable#0}"
    ),
    "_RNvXsw_NtCseQVuubCcFDg_4pack4hashAhj20_NtB7_4Hash4hash": "<[u8; 32] as pack::Hash>::hash",
    "_RNvMC1aINtB2_4RingKin2_Kl7f_Km0_E4turn": "<a::Ring<-2, 127, 0>>::turn",
    "_RNvCs1_1a4work.llvm.123456": "a::work",
    "_RNvCs1_1a4work.cold": "a::work.cold",
    "_RNvB_1a": None,  # refers to itself
    "_RNvC1a9short": None,
    "_R": None,
    "_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE": "core::fmt::Formatter::write_str",
}  # fmt: skip


@tag("probe.uprobe.cpp", "cfg.cpp_demangle")
@pytest.mark.parametrize(("name", "readable"), RUST.items())
def test_names_of_rust(name: str, readable: str | None) -> None:
    assert demangle(name) == (readable or name)


@tag("probe.uprobe.cpp")
@pytest.mark.parametrize(
    ("name", "without", "spelt"),
    [
        ("main", "main", "main"),
        ("ns::f(int) const", "ns::f", "ns::f"),
        ("ns::Box::operator()(int)", "ns::Box::operator()", "ns::Box::operator()"),
        ("ns::(anonymous namespace)::f(int)", "ns::(anonymous namespace)::f", "ns::(anonymous namespace)::f"),
        ("int ns::twice<int>(int)", "int ns::twice<int>", "ns::twice<int>"),
        ("void call<void (*)(int)>(void (*)(int))", "void call<void (*)(int)>", "call<void (*)(int)>"),
        ("std::map<int, long> make<int, long>(int)", "std::map<int, long> make<int, long>", "make<int, long>"),
        ("f(int)::{lambda(int)#1}::operator()(int) const", "f(int)::{lambda(int)#1}::operator()", None),
        ("A::operator int() const", "A::operator int", "A::operator int"),
        ("A::f[abi:cxx11](int) &&", "A::f[abi:cxx11]", None),
        ("work(int) [clone .isra.0]", "work", "work"),
        ("non-virtual thunk to A::f()", "non-virtual thunk to A::f", "non-virtual thunk to A::f"),
        ("A::operator<(A const&)", "A::operator<", "A::operator<"),
        ("<t::Point<u32>>::shift", "<t::Point<u32>>::shift", "<t::Point<u32>>::shift"),
    ],
)
def test_names_without_parameters(name: str, without: str, spelt: str | None) -> None:
    assert without_parameters(name) == without
    assert list(spellings(name, whole=False))[-1] == (spelt or without)
    assert next(spellings(name, whole=True)) == name


def test_what_is_a_parameter_list() -> None:
    assert has_parameters("f(int)")
    assert not has_parameters("f*")
    assert not has_parameters("(anonymous namespace)::A::operator()")


# ---------------------------------------------------------------- other roots


@tag("probe.pid.mntns")
def test_links_inside_of_another_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link with an absolute target leads to a place in that root, not to one in ours."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "opt").mkdir()
    (tmp_path / "usr/lib/real").write_text("x")
    (tmp_path / "opt/absolute").symlink_to("/usr/lib/real")
    (tmp_path / "opt/relative").symlink_to("../usr/lib/../lib/real")
    (tmp_path / "opt/up").symlink_to("../../../../usr/lib")
    (tmp_path / "opt/loop").symlink_to("loop")
    root = str(tmp_path)
    for name in ("absolute", "relative", "up/real"):
        assert roots._inside(root, f"/opt/{name}") == "/usr/lib/real"
    assert roots._inside(root, "/opt/loop") == "/opt/loop"
    assert roots._inside(root, "/no/such") == "/no/such"
    assert roots.split_root("/proc/12/root/bin/x") == ("/proc/12/root", "/bin/x")
    assert roots.split_root("/proc/12/rooted") == ("", "/proc/12/rooted")
    assert roots.root_of(os.getpid()) == ""
    assert roots.real_path(f"/proc/{os.getpid()}/root/proc/self/nothing").startswith(f"/proc/{os.getpid()}/root/proc/")


def test_files_by_several_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "d").write_text("")
    paths = [f"{tmp_path}/{name}" for name in "badc"]
    assert roots.distinct([*paths, f"{tmp_path}/e"]) == [f"{tmp_path}/b", f"{tmp_path}/d"]
    assert len(roots.distinct([f"{tmp_path}/a!/x", f"{tmp_path}/a!/y", f"{tmp_path}/a!/x"])) == 2


# ---------------------------------------------------------------- archives, debug files, code


@tag("probe.uprobe.zip")
def test_paths_into_archives(tmp_path: Path) -> None:
    odd = tmp_path / "odd!" / "file"
    odd.parent.mkdir()
    odd.write_text("")
    assert not zipped.is_member(str(odd))
    assert zipped.container(str(odd)) == str(odd)
    assert zipped.container(f"{tmp_path}/x.apk!/lib/a.so") == f"{tmp_path}/x.apk"
    with pytest.raises(HostError, match="cannot be read as a ZIP file"):
        zipped.locate(f"{odd}!/a")


@tag("cli.debuginfo")
def test_where_debug_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, extra = tmp_path / "home", tmp_path / "extra"
    path = home / "app"
    link = b"app.debug\0\0\0" + (7).to_bytes(4, "little")
    places = [
        extra / ".build-id/ab/cd.debug", extra / f"{home}/app.debug"[1:], extra / "app.debug", home / "app.debug",
        home / ".debug/app.debug",
    ]  # fmt: skip
    for place in (path, *places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
    monkeypatch.setattr(debugfiles, "_folders", (str(extra),))
    found = list(debugfiles.candidates(str(path), b"\xab\xcd", link))
    assert found == [(str(places[0]), None), *((str(place), 7) for place in places[1:])]
    monkeypatch.setattr(debugfiles, "_folders", ())
    assert [place for place, _ in debugfiles.candidates(str(path), b"", link)] == [str(p) for p in places[3:]]
    with pytest.raises(HostError, match=r"\.gnu_debugdata cannot be read"):
        debugfiles.unpack("x", b"no archive")


@tag("probe.uprobe.safety")
def test_instructions(tmp_path: Path) -> None:
    (tmp_path / "a.s").write_text(
        ".globl f\n.type f, @function\nf: push %rbp\nmov %rsp, %rbp\nret\n.byte 0x06, 0x90\n.size f, .-f\n"
    )
    path = str(tmp_path / "a.so")
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", path, str(tmp_path / "a.s")], check=True)
    with ElfFile(path) as file:
        (symbol,) = file.find("f")
        assert starts(file, symbol) == [0, 1, 4, 5]  # 06 is no instruction of 64-bit code
        assert starts(file, Symbol("none", 0, 0, 0)) == [0]


@pytest.mark.parametrize("size", [16, 70, 700, 5000])
def test_files_cut_short(tmp_path: Path, size: int) -> None:
    whole, part = Path("/bin/true").read_bytes(), tmp_path / "part"
    part.write_bytes(whole[:size])
    with pytest.raises(HostError, match=f"{part}: "), ElfFile(str(part)) as file:
        file.symbols()


@tag("err.ap.target")
def test_why_a_target_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "program").write_bytes(b"\x7fELF\x01\x01")
    assert resolve("program") == []
    assert "of another machine" in explain("program")
    assert "did you mean program?" in explain("progam")
    assert "looked up in $PATH" in explain("something else")
    assert "did you mean libc.so.6?" in explain("libc.so.7")
