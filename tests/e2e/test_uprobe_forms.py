"""The ways to name a place in a program: readable names, source lines, offsets, files in archives and namespaces."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.spec import REGISTRY
from pytrace.listing import list_probes
from pytrace.runtime.host import LiveHost
from tests.e2e.conftest import Runner
from tests.e2e.programs import run
from tests.e2e.userland import background, build, hits, program_of, refusal, wait_for

pytestmark = pytest.mark.root
tag = pytest.mark.tag

CPP_SOURCE = r"""
#define F __attribute__((noipa))
namespace ns {
struct Box {
    int n;
    F Box(int v) : n(v) {}
    F int add(int by) const { return n + by; }
    F long add(long a, long b) { return n + a + b; }
    F int operator()(int x) { return n * x; }
};
template <class T> F T twice(T v) { return v + v; }
namespace { F int secret(int x) { return x + 1; } }
}
int main() {
    ns::Box box(5);
    return box.add(1) + box.add(2L, 3L) + box(7) + ns::twice(4) + ns::twice(4L) + ns::secret(3) != 79;
}
"""
C_SOURCE = r"""#include <string.h>
#include <unistd.h>
#include "part.h"
#define F __attribute__((noipa))
static inline __attribute__((always_inline)) int inlined(int x) {
    return x * 3 +
        getppid() * 0;
}
F int plain(int a) {
    int s = 0;
    for (int i = 0; i < a; i++)
        s += i;
    return s;
}
F int first(int x) { return inlined(x); }
F int second(int x) { return inlined(x + 1); }
F int sum(int a, int b) { return a + b + part(a); }

int main(int argc, char **argv)
{
    do {
        plain(5); first(1); second(2); sum(1, 2);
        if (argc > 1) usleep(1000);
    } while (argc > 1);
    return 0;
}
"""
PART = """static int part(int x) {
    volatile int y = x;
    y++;
    return y;
}
"""


def build_c(folder: Path, name: str, *options: str) -> str:
    """The program in C."""
    (folder / "part.h").write_text(PART)
    return build(folder, name, C_SOURCE, *options)


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(tmp_path_factory.mktemp("cpp"), "cppapp", CPP_SOURCE, "-O1", "-g")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_c(tmp_path_factory.mktemp("lines"), "app", "-O0", "-g")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program without symbols, but for those it exports."""
    return build_c(tmp_path_factory.mktemp("bare"), "bare", "-O0", "-s", "-rdynamic")


# ---------------------------------------------------------------- readable names


@tag("probe.uprobe.cpp", "probe.wildcard.star")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ns::Box::add", {"ns::Box::add(int) const", "ns::Box::add(long, long)"}),
        ('"ns::Box::add(int) const"', {"ns::Box::add(int) const"}),
        ('"ns::Box::add(long*"', {"ns::Box::add(long, long)"}),
        ("ns::Box::Box", {"ns::Box::Box(int)"}),  # two symbols at one address
        ('"ns::Box::operator()"', {"ns::Box::operator()(int)"}),
        ("ns::twice<int>", {"int ns::twice<int>(int)"}),
        ("ns::tw*", {"int ns::twice<int>(int)", "long ns::twice<long>(long)"}),
        ('"ns::(anonymous namespace)::secret"', {"ns::(anonymous namespace)::secret(int)"}),
        ("_ZNK2ns3Box3addEi", {"ns::Box::add(int) const"}),
        ("main", {"main"}),
    ],
)
def test_cpp_names(cpp: str, text: str, found: set[str]) -> None:
    assert hits(cpp, f"uprobe:{cpp}:cpp:{text}") == {f":cpp:{name}": 1 for name in found}


@tag("probe.uprobe.cpp", "probe.uretprobe")
def test_cpp_returns(cpp: str) -> None:
    result = run(f"uretprobe:{cpp}:cpp:ns::Box::add {{ @[probe, (int32)retval] = count(); }}", command=cpp)
    start = f"uretprobe:{cpp}:cpp:ns::Box::add"
    assert result.maps["@"] == {(f"{start}(int) const", 6): 1, (f"{start}(long, long)", 10): 1}


@tag("probe.uprobe.args", "probe.uprobe.cpp")
def test_cpp_arguments(cpp: str) -> None:
    text = f'uprobe:{cpp}:cpp:"ns::Box::add(long, long)" {{ print((args.this->n, args.a, args.b)); print(args); }}'
    first, whole = run(text, command=cpp).text.splitlines()
    assert first == "(5, 2, 3)"
    assert re.fullmatch(r"{ \.this = 0x\w+, \.a = 2, \.b = 3 }", whole)


@tag("probe.uprobe.cpp", "list.target", "list.args")
def test_cpp_listing(cpp: str) -> None:
    found = list(list_probes(f"uprobe:{cpp}:cpp:ns::Box::add", LiveHost(), REGISTRY, verbose=True))
    start = f"uprobe:{cpp}:cpp:ns::Box::add"
    assert found[0] == f"{start}(int) const"
    assert found[-3:-1] == ["    struct Box * const this", "    long int a"]
    assert f"{start}(long, long)" in found


@tag("err.ap.lang", "err.ap.arity", "err.ap.nomatch")
def test_wrong_names(cpp: str) -> None:
    word = refusal(f"uprobe:{cpp}:rust:main {{ }}")
    assert "uprobe does not support the language 'rust'" in word
    assert f"uprobe:{cpp}:cpp:NAME" in word
    assert f'uprobe:{cpp}:cpp:"ns::Box::add"' in refusal(f"uprobe:{cpp}:ns::Box::add {{ }}")
    assert f'write uprobe:{cpp}:cpp:"ns::Box::add"' in refusal(f'uprobe:{cpp}:"ns::Box::add" {{ }}')
    assert "Did you mean 'ns::Box::add'" in refusal(f"uprobe:{cpp}:cpp:ns::Box::ad {{ }}")
    assert "cannot be combined with an offset" in refusal(f"uprobe:{cpp}:cpp:ns::Box::add+4 {{ }}")


# ---------------------------------------------------------------- source lines


@tag("probe.uprobe.srcloc")
@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("code.c:9", 1),  # the opening line of a function
        ("code.c:11", 1),  # a `for`: where it begins
        ("code.c:11:23", 6),  # its condition
        ("code.c:12", 5),
        ("code.c:6", 2),  # inlined at two places
        ("part.h:3", 1),
    ],
)
def test_source_lines(app: str, place: str, count: int) -> None:
    assert hits(app, f"uprobe:{app}@{place}") == {f"@{place}": count}
    folder = os.path.basename(os.path.dirname(app))
    assert hits(app, f"uprobe:{app}@{folder}/{place}") == {f"@{folder}/{place}": count}


@tag("probe.uprobe.srcloc", "probe.count")
def test_a_source_line_is_one_probe(app: str) -> None:
    with trace(f"uprobe:{app}@code.c:6 {{ @[func] = count(); }}", command=app) as t:
        t.run()
        assert t.probe_count == 1
        assert sum(t.maps["@"].values()) == 2


@tag("probe.uprobe.srcloc")
@pytest.mark.parametrize("options", [("-O2", "-gdwarf-4"), ("-O2", "-gdwarf-5"), ("-O0", "-gdwarf-2")])
def test_versions_of_debug_information(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = build_c(tmp_path, "other", *options)
    assert hits(path, f"uprobe:{path}@code.c:15") == {"@code.c:15": 1}
    text = f"uprobe:{path}@code.c:17 {{ print((args.a, args.b)); }}"
    assert run(text, command=path).text == "(1, 2)\n"


@tag("err.ap.srcloc", "probe.uprobe.srcloc")
def test_wrong_source_lines(app: str, bare: str) -> None:
    def error(point: str) -> str:
        return refusal(f"{point} {{ }}")

    assert "The nearest lines with code: 17 and 20" in error(f"uprobe:{app}@code.c:18")
    assert "The nearest lines with code: 26" in error(f"uprobe:{app}@code.c:1000")
    assert "No code for code.c:12 at column 77" in error(f"uprobe:{app}@code.c:12:77")
    assert "Columns of the line in which a statement starts: 11" in error(f"uprobe:{app}@code.c:12:77")
    assert "Did you mean 'code.c'" in error(f"uprobe:{app}@cod.c:12")
    assert "the format is TARGET@FILE:LINE[:COLUMN]" in error(f"uprobe:{app}@code.c")
    assert "Invalid line '0': not a positive integer" in error(f"uprobe:{app}@code.c:0")
    assert "Invalid column 'x': not a positive integer" in error(f"uprobe:{app}@code.c:12:x")
    assert "Wildcards are not allowed" in error(f"uprobe:{app}@*.c:12")
    assert "uretprobe cannot be attached to a source line" in error(f"uretprobe:{app}@code.c:12")
    missing = error(f"uprobe:{bare}@code.c:12")
    assert f'No DWARF found for "{bare}"' in missing
    assert "--debuginfo" in missing


# ---------------------------------------------------------------- offsets and addresses


@tag("probe.uprobe.safety", "probe.uprobe.offset", "probe.uprobe.addr", "err.ap.offset", "err.ap.addr")
def test_instruction_boundaries(app: str) -> None:
    (plain,) = (s for s in LiveHost().symbols(app) if s.name == "plain")
    *starts, end = LiveHost().instructions(app, plain)
    assert end == plain.size
    assert starts[:2] == [0, 1]  # push %rbp; mov %rsp,%rbp has three bytes
    assert hits(app, f"uprobe:{app}:plain+{starts[2]}") == {f":plain+{starts[2]}": 1}
    address = plain.address + starts[2]
    assert hits(app, f"uprobe:{app}:{address:#x}") == {f":{address}": 1}
    for point in (f"uprobe:{app}:plain+2", f"uprobe:{app}:{plain.address + 2:#x}"):
        message = refusal(f"{point} {{ }}")
        assert "plain+2 is not on an instruction boundary" in message
        assert "instructions start at plain+1 and plain+4" in message
        assert "--unsafe" in message
    assert "Offset outside the function plain" in refusal(f"uprobe:{app}:plain+{plain.size} {{ }}")
    assert "is at address 0x3" in refusal(f"uprobe:{app}:0x3 {{ }}")


@tag("probe.uprobe.safety", "cli.unsafe")
def test_unchecked_places_with_unsafe(app: str, bare: str) -> None:
    """Attached in vain: nobody runs the programs meanwhile."""
    inside = run(f"uprobe:{app}:plain+2 {{ }} begin {{ exit(); }}", unsafe=True)
    assert inside.words == ["plain+2 is not on an instruction boundary: instructions start at plain+1 and plain+4"]
    (plain,) = (s for s in LiveHost().symbols(app) if s.name == "plain")
    stripped = str(Path(app).with_name("stripped"))
    subprocess.run(["strip", "-o", stripped, app], check=True)
    assert "No function of" in refusal(f"uprobe:{stripped}:{plain.address:#x} {{ }}")
    text = f"uprobe:{stripped}:{plain.address:#x} {{ @ = count(); }}"
    unknown = run(text, unsafe=True, command=stripped)
    assert unknown.maps["@"] == 1
    assert "it cannot be checked" in unknown.words[0]


@tag("probe.uprobe", "probe.count")
def test_static_functions_of_one_name(tmp_path: Path) -> None:
    parts: list[str] = []
    for name in ("one", "two"):
        part = tmp_path / f"{name}.c"
        part.write_text(f"static __attribute__((noipa)) int helper(int {name}) {{ return {name}; }}"
                        f"int {name}(void) {{ return helper({len(parts)}); }}")  # fmt: skip
        parts.append(str(part))
    (tmp_path / "main.c").write_text("int one(void), two(void); int main() { return one() + two() - 1; }")
    path = str(tmp_path / "both")
    subprocess.run(["gcc", "-g", "-o", path, *parts, str(tmp_path / "main.c")], check=True)
    with trace(f"uprobe:{path}:helper {{ @[arg0] = count(); }}", command=path) as t:
        t.run()
        assert (t.maps["@"], t.probe_count) == ({0: 1, 1: 1}, 1)
    assert "2 functions helper" in refusal(f"uprobe:{path}:helper+4 {{ }}")
    (first, second) = (s for s in LiveHost().symbols(path) if s.name == "helper")
    text = "".join(f"uprobe:{path}:{s.address:#x} {{ print(args); }}" for s in (first, second))
    assert sorted(run(text, command=path).text.splitlines()) == ["{ .one = 0 }", "{ .two = 1 }"]


# ---------------------------------------------------------------- one program for many places


@tag("probe.uprobe.multi", "probe.uprobe.wildcard")
@pytest.mark.parametrize(
    ("body", "programs"),
    [
        ("@ = count();", 1),
        ("@[func] = count();", 1),
        ("@[probe] = count();", 1),
        ('printf("%s %d\\n", probe, arg0); $p = probe; @[$p, 1] = count(); @last = probe', 1),
        (f'if (probe == "{"x" * 3}") {{ @ = count(); }}', 2),
        ("@[sizeof(probe)] = count();", 2),
        ("@[str(probe)] = count();", 2),
    ],
)
def test_programs_of_a_wildcard(app: str, body: str, programs: int) -> None:
    """One as long as the block only wants the name as a value."""
    with trace(f"uprobe:{app}:firs*, uprobe:{app}:secon* {{ {body} }}", command=app) as t:
        assert len(t.plan.programs) == programs
        t.run()
        assert t.probe_count == 2


@tag("probe.uprobe.multi", "bi.probe")
@pytest.mark.parametrize("kind", ["uprobe", "uretprobe"])
@pytest.mark.parametrize("multi", [True, False])
def test_names_by_cookie(app: str, kind: str, multi: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through one link for all, and where there is no such link."""
    if not multi:
        monkeypatch.setattr("pytrace.runtime.attach_multi.has_multi", lambda kind: False)
    points = ", ".join(f"{kind}:{app}:{pattern}" for pattern in ("firs*", "su*", "p*n"))
    with trace(f'{points} {{ @[probe] = count(); printf("%s\\n", probe); }}', command=app) as t:
        shown = {o.text.strip() for o in t.events()}
        names = {f"{kind}:{app}:{name}" for name in ("first", "sum", "plain")}
        assert len(t.plan.programs) == 1
        assert len(t.tracer._attacher.links) == (1 if multi and LiveHost().has("uprobe_multi") else 3)
        assert (set(t.maps["@"]), shown) == (names, names)
        assert set(t.maps["@"].values()) == {1}


# ---------------------------------------------------------------- files in archives


def archive(path: str, library: str, compression: int = zipfile.ZIP_STORED, aligned: bool = True) -> None:
    """An archive with the library as `lib/libq.so`, on a page boundary or not."""
    name = "lib/libq.so"
    info = zipfile.ZipInfo(name)
    info.compress_type = compression
    gap = mmap.PAGESIZE - (30 + len(name)) if aligned else 8
    info.extra = struct.pack("<HH", 0xD935, gap - 4) + bytes(gap - 4)  # as zipalign does it
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, Path(library).read_bytes())


MAPPER = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
int main(int argc, char **argv)
{   /* as the linker of Android does it: the code straight from the archive */
    long offset = atol(argv[2]), size = atol(argv[3]), code = atol(argv[4]);
    char *start = mmap(0, size, PROT_READ | PROT_EXEC, MAP_PRIVATE, open(argv[1], O_RDONLY), offset);
    return ((int (*)(int, int))(start + code))(3, 4) != 7;
}
"""


@tag("probe.uprobe.zip")
def test_a_library_in_an_archive(tmp_path: Path) -> None:
    source = "#define F __attribute__((noipa))\nF int skip(int a) { return a; }\nF int q_add(int a, int b) { return a + b; }"
    library = build(tmp_path, "libq.so", source, "-g", "-O1", "-shared", "-fPIC")
    mapper = build(tmp_path, "mapper", MAPPER)
    path = str(tmp_path / "app.apk")
    archive(path, library)
    (symbol,) = (s for s in LiveHost().symbols(library) if s.name == "q_add")
    child = f"{mapper} {path} {mmap.PAGESIZE} {os.path.getsize(library)} {symbol.offset}"
    point = f'"{path}!/lib/libq.so"'
    text = f"uprobe:{point}:q_add {{ @[probe, arg0, args.b] = count(); }} uretprobe:{point}:q_* {{ @r = retval; }}"
    maps = run(text, command=child).maps
    assert maps == {"@": {(f"uprobe:{path}!/lib/libq.so:q_add", 3, 4): 1}, "@r": 7}
    listed = list(list_probes(f"uprobe:{path}!/lib/libq.so:q_*", LiveHost(), REGISTRY))
    assert listed == [f"uprobe:{path}!/lib/libq.so:q_add"]


@tag("probe.uprobe.zip", "err.ap.target")
def test_archives_that_nobody_can_map(tmp_path: Path) -> None:
    library = build(tmp_path, "libq.so", "int q_add(int a, int b) { return a + b; }", "-shared", "-fPIC")
    path = str(tmp_path / "app.apk")
    text = f'uprobe:"{path}!/lib/libq.so":q_add {{ }}'
    assert "does not exist or is not executable" in refusal(text)
    archive(path, library, zipfile.ZIP_DEFLATED)
    assert "lib/libq.so is compressed" in refusal(text)
    archive(path, library, aligned=False)
    assert "starts in the middle of a page" in refusal(text)
    assert "has no member lib/no.so" in refusal(text.replace("libq", "no"))
    Path(path).write_bytes(b"nothing")
    assert "cannot be read as a ZIP file" in refusal(text)


# ---------------------------------------------------------------- processes


@tag("probe.uprobe.pid-exe")
def test_the_executable_of_a_process(app: str, cpp: str) -> None:
    with background(app, "loop") as other, background(app, "loop") as mine:
        wait_for(lambda: program_of(mine.pid) == program_of(other.pid) == "app")
        text = "uprobe:plain { @[probe] = count(); @pids[pid] = count(); if (++@n == 3) { exit(); } }"
        maps = run(text + " uprobe:cpp:fir* { @cpp[probe] = count(); }", pid=mine.pid).maps
    assert list(maps["@"]) == [f"uprobe:{app}:plain"]
    assert maps["@"][f"uprobe:{app}:plain"] >= 3  # it runs on until the probes are gone
    assert list(maps["@pids"]) == [mine.pid]
    assert list(maps["@cpp"]) == [f"uprobe:{app}:cpp:first"]
    assert "found 1" in refusal("uprobe:plain { }")


@tag("probe.pid.mntns", "probe.uprobe.lib", "probe.uprobe.pid-exe")
def test_another_mount_namespace(app: str, tmp_path: Path) -> None:
    """A file that exists only in there, behind a link whose absolute target means another file out here."""
    folder = tmp_path / "inside"
    folder.mkdir()
    library = build(tmp_path, "libhidden.so", "int hidden(int a) { return a; }", "-shared", "-fPIC",
                    "-Wl,-soname,libhidden.so")  # fmt: skip
    main = "#include <unistd.h>\nint hidden(int);\nint inner(int a) { return hidden(a); }\n" \
           "int main() { for (;;) { inner(7); usleep(1000); } }"  # fmt: skip
    path = build(tmp_path, "real", main, "-Wl,--no-as-needed", library, f"-Wl,-rpath,{folder}")
    script = (
        f"mount -t tmpfs none {folder} && cp {path} {library} {folder} && ln -s {folder}/real {folder}/link && "
        f"rm -f {tmp_path}/libhidden.so && exec {folder}/real"
    )
    with background("unshare", "-m", "--propagation", "private", "sh", "-c", script) as process:
        wait_for(lambda: program_of(process.pid) == "real")
        root = f"/proc/{process.pid}/root"
        assert not (folder / "real").exists()
        text = (
            f"uprobe:{folder}/link:inner {{ @[probe, func, comm, pid] = count(); @stack = ustack(2); }}"
            "uprobe:libhidden:hidden { @library[probe, func] = count(); }"
            "uprobe:main* { } uretprobe:inner { @r = retval; exit(); }"
        )
        result = run(text, pid=process.pid)
        maps = result.maps
        (key,) = maps["@"]
        assert key == (f"uprobe:{root}{folder}/real:inner", "inner", "real", process.pid)
        (key,) = maps["@library"]
        assert key == (f"uprobe:{root}{folder}/libhidden.so:hidden", "hidden")
        assert maps["@r"] == 7
        assert re.search(r"inner\+0\n\s+main\+\d+", result.printed_maps)
        missing = refusal(f"uprobe:{folder}/reall:inner {{ }}", pid=process.pid)
        assert f"in the mount namespace of process {process.pid}; did you mean {folder}/real" in missing
    assert "does not exist" in refusal(f"uprobe:{folder}/link:inner {{ }}")


@tag("probe.pid.mntns", "probe.uprobe")
def test_another_pid_namespace(app: str) -> None:
    with background("unshare", "-p", "-f", "--mount-proc", "--kill-child", app, "loop") as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        wait_for(lambda: bool(children.read_text()) and program_of(int(children.read_text())) == "app")
        pid = int(children.read_text())
        text = f"uprobe:{app}:plain /pid == {pid}/ {{ @[pid, tid, comm, func] = count(); print(ustack(2)); exit(); }}"
        for options in ({"pid": pid}, {}):
            result = run(text, **options)
            assert list(result.maps["@"]) == [(pid, pid, "app", "plain")]
            assert re.search(r"plain\+0\n\s+main\+\d+", result.text)


@tag("probe.uprobe")
def test_a_process_whose_executable_is_gone(app: str, tmp_path: Path) -> None:
    copy = str(shutil.copy(app, tmp_path / "gone"))
    with background(copy, "loop") as process:
        wait_for(lambda: program_of(process.pid) == "gone")
        os.unlink(copy)
        maps = run("uprobe:plain { @[probe] = count(); exit(); }", pid=process.pid).maps
        assert list(maps["@"]) == [f"uprobe:/proc/{process.pid}/exe:plain"]


@tag("probe.uprobe.resolve", "probe.uprobe.wildcard")
def test_processes_that_start_later_and_all_that_run(app: str) -> None:
    with background(app, "loop") as process:
        wait_for(lambda: program_of(process.pid) == "app")
        maps = run(f"uprobe:*:secon* /pid == {process.pid}/ {{ @[probe] = count(); exit(); }}").maps
    assert list(maps["@"]) == [f"uprobe:{app}:second"]
    with trace(f"uprobe:{app}:second {{ @ = count(); exit(); }}") as t:
        outputs = t.outputs()
        next(outputs)
        subprocess.run([app], check=True)
        for _ in outputs:
            pass
        assert t.maps["@"] == 1


# ---------------------------------------------------------------- debug files and stripped ones


def split_off(path: str, folder: Path) -> str:
    """A program without symbols, whose debug information is in a file of another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stripped, debug = f"{path}.stripped", str(folder / "app.debug")
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", path, stripped], check=True)
    return stripped


@tag("cli.debuginfo", "probe.uprobe.srcloc", "probe.uprobe.args")
def test_debug_folders(app: str, tmp_path: Path, run: Runner) -> None:
    stripped = split_off(app, tmp_path / "link")
    text = f"uprobe:{stripped}:sum, uprobe:{stripped}@code.c:17 {{ print((args.a, args.b)); }}"
    assert "is stripped" in run("-e", text, "-c", stripped).stderr
    found = run("--debuginfo", f"{tmp_path}:{tmp_path}/link", "-q", "-e", text, "-c", stripped)
    assert (found.stdout.split("\n")[:2], found.stderr) == (["(1, 2)", "(1, 2)"], "")
    listed = run("--debuginfo", f"{tmp_path}/link", "-lv", f"uprobe:{stripped}:su*").stdout
    assert listed == f"uprobe:{stripped}:sum\n    int a\n    int b\n"
    other = tmp_path / "id"
    with_id = build_c(tmp_path, "with_id", "-g", "-O0", "-Wl,--build-id=0x123456")
    alone = split_off(with_id, other)
    (other / ".build-id/12").mkdir(parents=True)
    os.rename(other / "app.debug", other / ".build-id/12/3456.debug")
    found = run("--debuginfo", str(other), "-q", "-e", text.replace(stripped, alone), "-c", alone)
    assert found.stdout.split("\n")[:2] == ["(1, 2)", "(1, 2)"]
    wrong = run("--debuginfo", "/nonexistent", "-e", text)
    assert wrong.stderr.startswith("ERROR: USAGE: --debuginfo: there is no folder '/nonexistent'")


def test_debug_files_of_another_build_are_not_taken(app: str, tmp_path: Path) -> None:
    (tmp_path / "part.h").write_text(PART)
    other = build(tmp_path, "app", C_SOURCE.replace("a + b", "a - b"), "-O0", "-g")
    stripped = split_off(other, tmp_path / "x")
    debug = tmp_path / "app.debug"
    shutil.copy(tmp_path / "x/app.debug", debug)
    assert hits(stripped, f"uprobe:{stripped}:plain") == {":plain": 1}
    subprocess.run(["objcopy", "--only-keep-debug", app, str(debug)], check=True)
    assert "is stripped" in refusal(f"uprobe:{stripped}:plain {{ }}")


@tag("probe.uprobe", "sym.resolve")
def test_small_debug_information(app: str, tmp_path: Path) -> None:
    """Symbols in the section `.gnu_debugdata`, as Fedora has it."""
    mini, packed, path = tmp_path / "mini", tmp_path / "mini.xz", str(tmp_path / "app")
    subprocess.run(["objcopy", "--only-keep-debug", app, str(mini)], check=True)
    subprocess.run(["strip", "--strip-debug", "--keep-file-symbols", str(mini)], check=True)
    packed.write_bytes(subprocess.check_output(["xz", "-c", str(mini)]))
    subprocess.run(["objcopy", "--strip-all", f"--add-section=.gnu_debugdata={packed}", app, path], check=True)
    with background(path, "loop"):
        assert run(f"uprobe:{path}:plain {{ print(func); exit(); }}").text == "plain\n"




@tag("err.ap.target", "err.ap.nomatch", "probe.uprobe.resolve")
def test_wrong_files(app: str, bare: str, tmp_path: Path) -> None:
    """One sentence each, with what to do."""
    script, data, still = tmp_path / "script", tmp_path / "data", tmp_path / "still"
    script.write_text("#!/bin/sh -e\n")
    script.chmod(0o755)
    data.write_text("no program")
    subprocess.run(["gcc", "-no-pie", "-o", str(still), "-xc", "-"], input=b"int main() { }", check=True)
    still.chmod(0o644)
    table = {
        f"{tmp_path}/nothing:main": "There is no such file.",
        "bahs:main": "did you mean bash?",
        "libcrypto_no:main": "There is no such file",
        f"{tmp_path}/scrip:main": f"did you mean {tmp_path}/script?",
        f"{script}:main": "is a script: its functions are not the machine's. Trace its interpreter (/bin/sh -e).",
        f"{data}:main": "is not an ELF file",
        f"{tmp_path}:main": f"is a folder: give a file, or {tmp_path}/* for all in it",
        f"{still}:main": "is a program without permission to execute: chmod +x it",
        f"{app}:plian": "Did you mean 'plain'",
        f"{bare}:part": "is stripped: only the",
        f"{app}:inlined": "one that was inlined has no symbol, but its lines can be probed",
    }
    for point, remedy in table.items():
        message = refusal(f"uprobe:{point} {{ }}")
        assert remedy in message, message
        assert message.startswith("stdin:1:1-")
        assert message.count("ERROR") == 1
    assert hits(bare, f"uprobe:{bare}:plain") == {":plain": 1}  # it exports that one


@tag("probe.pid")
def test_a_process_that_is_not_there() -> None:
    message = refusal("uprobe:plain { }", pid=4194303)
    assert "the executable of process 4194303 cannot be found: No such file or directory" in message
