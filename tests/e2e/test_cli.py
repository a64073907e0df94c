"""The command line on this kernel: options, streams, statuses, signals, the life of a run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.children import python
from tests.e2e.conftest import Runner, Start

pytestmark = pytest.mark.root
tag = pytest.mark.tag

UNTIL_STOPPED = 'begin { printf("ready\\n"); @n = 3; } end { printf("bye\\n"); } interval:s:100 { }'


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents of an output."""
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------- programs and parameters


@tag("cli.e", "run.begin-only", "run.blank-lines", "run.maps-on-exit", "msg.attached", "run.order")
def test_a_program_of_words(run: Runner) -> None:
    text = 'end { printf("bye\\n"); } begin { @z = 1; printf("hi\\n"); @b[2] = 5; }'
    assert run("-e", text) == ("hi\nbye\n\n\n@b[2]: 5\n@z: 1\n", "Attached 2 probes\n", 0)


@tag("cli.e")
def test_the_last_program_wins_and_is_called_stdin(run: Runner) -> None:
    assert run("-e", "begin { foo }", "-q", "-e", 'begin { printf("x") }').stdout == "x\n\n"
    assert run("-e", "begin { foo }").stderr.startswith("stdin:1:9-12: ERROR: Unknown identifier: 'foo'\n")


@tag("cli.file", "param.pos", "run.status")
def test_a_program_of_a_file(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "a.bt"
    path.write_text('#!/usr/bin/env pytrace\nbegin { printf("%d %s\\n", $1, str($2)); }')
    assert run(str(path), "5", "-q", "six") == ("5 six\n\n\n", "", 0)
    path.write_text("begin { foo }")
    assert run(str(path)).stderr.startswith(f"{path}:1:9-12: ERROR: ")
    missing = run("/no/such.bt")
    assert missing == ("", "ERROR: failed to open file '/no/such.bt': No such file or directory\n", 1)


@tag("cli.file")
def test_a_program_of_standard_input(run: Runner) -> None:
    assert run("-q", "-", "5", stdin=b"begin { print($1) }").stdout == "5\n\n\n"
    assert run("-", stdin=b"begin { foo }").stderr.startswith("stdin:1:9-12: ")
    assert run("-e", "") == ("", "ERROR: USAGE: filename or -e 'program' required.\n", 1)


@tag("param.positional")
def test_parameters_stand_anywhere_behind_the_program(run: Runner) -> None:
    text = 'begin { printf("%s|%s|%d\\n", str($1), str($2), $#); }'
    assert run("a", "-q", "-e", text, "--", "-b", "c").stdout == "a|-b|3\n\n\n"


@tag("param.named")
def test_options_of_the_program(run: Runner) -> None:
    text = 'begin { print((getopt("depth", 3, "how far to look"), getopt("all"))); }'
    assert run("-q", "-e", text, "--", "--depth=5", "--all").stdout == "(5, true)\n\n\n"
    unknown = run("-e", text, "--", "--bad")
    assert unknown.stderr == (
        "ERROR: unexpected program command line options: --bad\nHINT: expected program options: --depth: --all\n"
    )
    assert unknown.status == 1
    shown = run("-e", text, "--", "--help")
    assert shown == ("", "HINT: expected program options:\n--depth: how far to look\n--all\n", 1)


def test_no_words_at_all(run: Runner) -> None:
    result = run()
    assert (result.stdout, result.status) == ("", 1)
    assert result.stderr.startswith("USAGE:\n")


@tag("cli.h", "cli.V", "run.status", "run.streams")
def test_help_and_version(run: Runner) -> None:
    shown = run("-h")
    assert shown.status == 0
    assert "pytrace [options] FILE" in shown.stdout
    assert shown == run("--help")
    version = run("-V")
    assert re.fullmatch(r"pytrace v\d+\.\d+\.\d+\n", version.stdout)
    assert version == run("--version")


@tag("run.streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"{sys.executable} -m pytrace -o {out} -e 'begin {{ @[1] = 1; printf(\"hi\\n\"); }}' {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert out.read_text() == "hi\n\n\n@[1]: 1\n"
    command = command.replace(f"-o {out} ", "")
    assert subprocess.run(["sh", "-c", command], check=False, stdout=subprocess.PIPE).returncode == 0


@tag("cli.unsafe")
def test_unsafe(run: Runner) -> None:
    refused = run("-e", 'begin { system("echo hi"); }')
    assert refused.status == 1
    assert "system() is an unsafe function being used in safe mode" in refused.stderr
    assert run("--unsafe", "-q", "-e", 'begin { system("echo hi"); }').stdout.startswith("hi\n")


@tag("cli.q", "run.blank-lines")
def test_quiet(run: Runner) -> None:
    assert run("-q", "-e", "begin {}") == ("\n\n", "", 0)
    assert run("-q", "-e", "config = { }") == ("", "", 1)


@tag("prog.empty", "run.status")
def test_nothing_to_attach(run: Runner) -> None:
    assert run("-e", "config = { }") == ("No probes to attach\n", "", 1)


# ---------------------------------------------------------------- the end of a run


@tag("run.finish", "run.status")
@pytest.mark.parametrize(("code", "status"), [("", 0), ("7", 7), ("258", 2)])
def test_the_status_is_what_exit_says(code: str, status: int, run: Runner) -> None:
    begins = f'begin {{ exit({code}); }} begin {{ printf("no\\n"); }}'
    text = f'{begins} interval:s:100 {{ }} end {{ printf("end\\n"); }}'
    assert run("-q", "-e", text) == ("end\n\n\n", "", status)


@tag("run.finish")
def test_an_exit_in_the_end_probe_wins(run: Runner) -> None:
    assert run("-q", "-e", "begin { exit(3); } interval:s:100 { } end { exit(4); }").status == 4


@tag("run.finish", "probe.signals", "probe.end.maps", "probe.lifecycle")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_orderly_end(number: int, start: Start) -> None:
    running = start("-e", UNTIL_STOPPED)
    running.wait_for("ready\n")
    running.signal(number)
    assert running.finish(5) == ("ready\nbye\n\n\n@n: 3\n", "Attached 3 probes\n", 0)


@tag("run.finish")
def test_after_two_signals_maps_are_printed_all_the_same(start: Start) -> None:
    running = start("-q", "-e", UNTIL_STOPPED)
    running.wait_for("ready\n")
    running.signal(signal.SIGINT)
    running.signal(signal.SIGINT)
    result = running.finish(5)
    assert result.status == 0
    assert result.stdout.startswith("ready\n")
    assert result.stdout.endswith("\n\n@n: 3\n")
    assert result.stderr == ""


@tag("run.sigusr1")
def test_sigusr1_changes_nothing(start: Start) -> None:
    running = start("-q", "-e", UNTIL_STOPPED)
    running.wait_for("ready\n")
    running.signal(signal.SIGUSR1)
    time.sleep(0.2)
    assert running.interrupt().stdout == "ready\nbye\n\n\n@n: 3\n"


@tag("run.begin-only", "probe.autoexit")
def test_begin_and_end_alone_end_by_themselves(run: Runner) -> None:
    assert run("-q", "-e", 'begin { printf("a\\n"); } end { printf("b\\n"); }', timeout=10).stdout == "a\nb\n\n\n"


@tag("run.maps-on-exit", "cfg.print_maps_on_exit")
def test_maps_at_the_end_are_in_the_order_of_their_names(run: Runner) -> None:
    text = "begin { @b = 1; @ = 2; @a10 = 3; @a2 = 4; @B = 5; @never[1] = 1; clear(@never); }"
    assert run("-q", "-e", text).stdout == "\n\n@: 2\n@B: 5\n@a10: 3\n@a2: 4\n@b: 1\n"
    quiet = run("-q", "-e", f"config = {{ print_maps_on_exit = false }} {text}")
    assert quiet.stdout == "\n\n"


@tag("msg.attached", "probe.count")
def test_how_many_probes_are_attached(run: Runner) -> None:
    assert run("-e", "begin { }").stderr == "Attached 1 probe\n"
    text = "begin { exit(); } end { } tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { }"
    assert run("-e", text).stderr == "Attached 4 probes\n"


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    pytrace = f"{sys.executable} -m pytrace"
    command = f"{pytrace} -q -e 'interval:ms:5 {{ printf(\"x\\n\"); }}' 2>{tmp_path}/err | head -2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "x\nx\n"
    assert (tmp_path / "err").read_text() == ""


def test_an_interrupt_at_any_time_shows_no_traceback(start: Start) -> None:
    for delay in (0, 0.05, 0.1, 0.15, 0.2, 0.25):
        running = start("-e", UNTIL_STOPPED)
        running.wait_for_own_signals()
        time.sleep(delay)
        result = running.interrupt(5)
        assert "Traceback" not in result.stderr, delay
        assert "Exception" not in result.stderr, delay


# ---------------------------------------------------------------- streams


@tag("run.streams", "diag.format", "run.status")
def test_compile_errors_go_to_standard_error(run: Runner) -> None:
    result = run("-f", "json", "-e", "begin { @a[1] = 1; print(@b); }")
    excerpt = f"begin {{ @a[1] = 1; print(@b); }}\n{' ' * 25}~~\n"
    assert result == ("", f"stdin:1:26-28: ERROR: Undefined map: @b\n{excerpt}", 1)


@tag("run.streams")
def test_messages_of_the_program_go_to_standard_error(run: Runner) -> None:
    result = run("-q", "-e", 'begin { printf("out\\n"); errorf("bad %d", 3); warnf("hm"); }')
    assert result.stdout == "out\n\n\n"
    assert result.stderr == "stdin:1:26-45: ERROR: bad 3\nstdin:1:47-58: WARNING: hm\n"


@tag("cli.o", "run.streams")
def test_an_output_file(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old, and longer than what is new\n" * 3)
    assert run("-o", str(path), "-e", 'begin { printf("new\\n"); @x = 1; }') == ("", "Attached 1 probe\n", 0)
    assert path.read_text() == "new\n\n\n@x: 1\n"
    failed = run("-o", "/no/x", "-e", "begin {}")
    assert failed == ("", 'ERROR: Failed to open output file: "/no/x": No such file or directory\n', 1)


@tag("cli.f", "json", "json.attached_probes", "json.map", "json.printf", "run.streams")
def test_json(run: Runner) -> None:
    text = 'begin { printf("hi %d\\n", 3); @x = 5; @m["rd", 1] = 7; print(@x); }'
    assert run("-f", "json", "-e", text) == (
        '{"type": "attached_probes", "count": 1, "data": {"probes": 1}}\n'
        '{"type": "printf", "data": "hi 3\\n"}\n'
        '{"type": "map", "data": {"@x": 5}}\n'
        '{"type": "map", "data": {"@m": {"rd,1": 7}}}\n'
        '{"type": "map", "data": {"@x": 5}}\n',
        "",
        0,
    )
    assert (
        run("-f", "xml", "-e", text).stderr == "ERROR: Invalid output format \"xml\"\nValid formats: 'text', 'json'\n"
    )


@tag("json.hist", "json.stats", "json.value", "json.keys", "json.num", "cli.q")
def test_json_of_every_shape(run: Runner) -> None:
    text = """begin {
      @h = lhist(-1, 0, 2, 1); @h = lhist(0, 0, 2, 1); @h = lhist(5, 0, 2, 1); @k["rd"] = hist(5);
      @s = stats(10); @s = stats(30); @a["rd"] = avg(20); print((1, "x", true)); print((uint64)-1);
      @t[(1, (2, 3))] = 1; @e = avg(1); clear(@e); @none[1] = 1; clear(@none); print(@none);
    }"""
    assert run("-q", "-f", "json", "-e", text).stdout.splitlines() == [
        '{"type": "value", "data": [1,"x",true]}',
        '{"type": "value", "data": "18446744073709551615"}',
        '{"type": "stats", "data": {"@a": {"rd": 20}}}',
        '{"type": "stats", "data": {"@e": {}}}',
        '{"type": "hist", "data": {"@h": [{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 1},'
        '{"min": 1, "max": 1, "count": 0},{"min": 2, "count": 1}]}}',
        '{"type": "hist", "data": {"@k": {"rd": [{"min": 4, "max": 7, "count": 1}]}}}',
        '{"type": "stats", "data": {"@s": {"count": 2, "average": 20, "total": 40}}}',
        '{"type": "map", "data": {"@t": {"1,(2,3)": 1}}}',
    ]


@tag("cli.B")
def test_buffering(start: Start, run: Runner) -> None:
    text = 'begin { printf("line\\npart"); } interval:s:100 { }'
    for mode, seen in (("line", "line\n"), ("none", "line\npart"), ("full", "")):
        running = start("-B", mode, "-e", text)
        running.wait_for("Attached 2 probes\n")
        time.sleep(0.4)
        # what is written in one piece is not torn: a chunk with a newline goes as a whole
        assert running.stdout.startswith(seen), mode
        assert (running.stdout == "") == (mode == "full")
        assert running.interrupt().stdout == "line\npart\n\n"
    partial = start("-q", "-e", 'begin { printf("no newline"); } interval:ms:300 { printf(" but now\\n"); exit(); }')
    assert partial.finish().stdout == "no newline but now\n\n\n"
    assert run("-B", "x", "-e", text).stderr == "ERROR: USAGE: -B must be either 'line', 'full', or 'none'.\n"


# ---------------------------------------------------------------- processes


@tag("cli.p", "cli.p-filter", "probe.pid", "probe.pid.exclusive")
def test_a_process(start: Start, run: Runner) -> None:
    code = "import os, time\nwhile True: os.getppid(); time.sleep(0.01)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        running = start("-p", str(process.pid), "-e", "tracepoint:syscalls:sys_enter_getppid { @[pid] = count(); }")
        running.wait_for("Attached 1 probe\n")
        time.sleep(0.3)
        process.kill()
        result = running.finish(5)  # it ends with the process
    assert re.fullmatch(rf"\n\n@\[{process.pid}\]: \d+\n", result.stdout)
    assert result.status == 0
    assert run("-p", "4194304", "-e", "begin {}") == (
        "",
        "ERROR: Failed to attach to pid: Unable to open pidfd (No such process)\n"
        "HINT: There is no process 4194304; `ps -e` lists them.\n",
        1,
    )  # fmt: skip
    both = run("-p", "1", "-c", "ls", "-e", "begin {}")
    assert both.stderr.startswith("ERROR: USAGE: Cannot use both -c and -p.\nUSAGE:\n")
    assert both.status == 1


@tag("cli.c", "cli.c-child", "probe.cmd")
def test_a_command(run: Runner, tmp_path: Path) -> None:
    command = python(tmp_path, "import os\nfor _ in range(7): os.getppid()\nprint('child was here')")
    text = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { @ = count(); }"
    result = run("-q", "-c", command, "-e", text)
    assert sorted(result.stdout.split()) == ["7", "@:", "child", "here", "was"]
    missing = run("-c", "no-such-program x", "-e", "begin {}")
    assert missing == (
        "",
        "ERROR: Failed to fork child: Path 'no-such-program' does not exist or is not executable "
        "(No such file or directory)\n",
        1,
    )


@tag("cli.c-child", "run.finish")
def test_the_child_ends_with_the_run(start: Start, tmp_path: Path) -> None:
    running = start("-q", "-c", "sleep 1000", "-e", 'begin { printf("%d\\n", cpid); } interval:s:100 { }')
    running.wait_for("\n")
    pid = int(running.stdout.split()[0])
    os.kill(pid, 0)
    running.interrupt()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# ---------------------------------------------------------------- warnings, losses, configuration


@tag("cli.k", "warn.lookup")
def test_more_warnings(run: Runner) -> None:
    text = "begin { @m[1] = 1; print(@m[7]); }"
    assert run("-q", "-k", "-e", text).stderr == (
        "stdin:1:26-31: WARNING: Can't lookup map element because it does not exist.\n"
        "Additional Info - helper: map_lookup_elem, retcode: 0\n"
        f"{text}\n{' ' * 25}~~~~~\n"
    )
    assert run("-q", "-e", text).stderr == ""
    assert "-kk has been deprecated" in run("-kk", "-e", text).stderr
    assert run("-k", "--no-warnings", "-e", text).status == 1


@tag("cli.no-warnings")
def test_no_warnings(run: Runner) -> None:
    text = 'begin { $x = 1; while ($x < 2) { $x++; } @m = 1; delete(@m); delete(@m); warnf("w"); }'
    with_them = run("-q", "-e", text)
    assert "WARNING: While loops are deprecated" in with_them.stderr
    assert "WARNING: w" in with_them.stderr
    assert run("-q", "--no-warnings", "-e", text) == ("\n\n", "", 0)


@tag("ev.loss", "ev.ring", "json.lost_events", "cli.f")
def test_lost_events_are_counted(run: Runner, tmp_path: Path) -> None:
    calls = 200_000
    command = python(tmp_path, f"import os\nfor _ in range({calls}): os.getppid()")
    text = 'config = { perf_rb_pages = 1 } t:syscalls:sys_enter_getppid /pid == cpid/ { printf("%s\\n", comm); }'
    result = run("-q", "-c", command, "-e", text, timeout=60)
    lost = sum(int(n) for n in re.findall(r"^Lost (\d+) events$", result.stderr, re.M))
    shown = result.stdout.count("python")
    assert lost > 0
    assert shown + lost == calls
    assert f"WARNING: Total lost event count: {lost}\n" in result.stderr
    strict = run("--strict", "-q", "-f", "json", "-c", command, "-e", text, timeout=60)
    found = documents(strict.stdout)
    lost = sum(d["data"]["events"] for d in found if d["type"] == "lost_events")
    assert all(d["count"] == d["data"]["events"] for d in found if d["type"] == "lost_events")
    assert sum(d["type"] == "printf" for d in found) + lost == calls
    assert strict.status == 1


@tag("cfg.block", "cfg.env", "cfg.max_map_keys", "prog.config")
def test_settings(run: Runner) -> None:
    text = "begin { @m[1] = 1; @m[2] = 2; @m[3] = 3; @m[4] = 4; }"

    def kept(program: str, **env: str) -> int:
        return run("-q", "-e", program, env=env).stdout.count("@m[")

    assert kept(text) == 4
    assert kept(f"config = {{ max_map_keys = 2 }} {text}") == 2
    assert kept(f'config = {{ BPFTRACE_MAX_MAP_KEYS = "2"; }} {text}') == 2
    assert kept(text, BPFTRACE_MAX_MAP_KEYS="0x3") == 3
    assert kept(f"config = {{ max_map_keys = 2 }} {text}", BPFTRACE_MAX_MAP_KEYS="3") == 3


@tag("cfg.block", "cfg.env", "run.status")
def test_bad_settings(run: Runner) -> None:
    bad = run("-e", "config = { bad = 1 } begin {}")
    assert bad.stderr.startswith("stdin:1:12-19: ERROR: bad: not a known configuration option\n")
    assert bad.status == 1
    env = run("-e", "begin {}", env={"BPFTRACE_MAX_PROBES": "x"})
    assert env == ("", "max_probes: expecting a number, got x\n", 2)


@tag("cfg.max_strlen", "cfg.str_trunc_trailer")
def test_length_of_strings(run: Runner) -> None:
    text = 'begin { printf("%s\\n", str($1)); }'
    word = "abcdefghijklmnopqrstuvwxyz"
    assert run("-q", "-e", text, word).stdout == f"{word}\n\n\n"
    tracing = 't:syscalls:sys_enter_openat /pid == cpid/ { printf("%s\\n", str(args.filename)); }'
    shown = run("-q", "-c", "cat /etc/hostname", "-e", tracing, env={"BPFTRACE_MAX_STRLEN": "8"}).stdout
    assert "/etc/hos..\n" in shown
    assert "/etc/host" not in shown


@tag("cfg.missing_probes", "run.status")
def test_probes_that_are_missing(run: Runner) -> None:
    text = 'tracepoint:sched:no_such { } begin { printf("ran\\n"); }'
    assert run("-e", text).status == 1
    warned = run("-q", "-e", f"config = {{ missing_probes = warn }} {text}")
    assert warned.stdout == "ran\n\n\n"
    assert "WARNING: No matches for tracepoint sched:no_such. Skipping.\n" in warned.stderr
    ignored = run("-q", "-e", text, env={"BPFTRACE_MISSING_PROBES": "ignore"})
    assert ignored.stdout == "ran\n\n\n"
    assert "sched:no_such." not in ignored.stderr


@tag("env.notify")
def test_notice_for_test_harnesses(run: Runner) -> None:
    env = {"__BPFTRACE_NOTIFY_PROBES_ATTACHED": "1"}
    shown = run("-q", "-e", "begin { }", env=env).stdout
    assert shown == "__BPFTRACE_NOTIFY_PROBES_ATTACHED\n\n\n"


@tag("env.COLOR")
def test_colours(run: Runner) -> None:
    shown = run("-e", "begin { foo }", env={"BPFTRACE_COLOR": "always"}).stderr
    assert shown.startswith("\033[31mstdin:1:9-12: ERROR: Unknown identifier: 'foo'\033[0m\nbegin")
    assert "\033" not in run("-e", "begin { foo }").stderr


# ---------------------------------------------------------------- looking inside


@tag("cli.dry-run", "run.order", "run.status")
def test_a_dry_run(run: Runner) -> None:
    text = 'begin { printf("x\\n"); } interval:s:1 { } tracepoint:sched:sched_switch { }'
    assert run("--dry-run", "-e", text) == ("", "", 0)
    assert run("--dry-run", "-e", "begin { foo }").status == 1


@tag("cli.v")
def test_verbose(run: Runner) -> None:
    result = run("-v", "-e", "begin { } tracepoint:sched:sched_switch { exit(); }")
    assert "Attached tracepoint:sched:sched_switch\n" in result.stderr
    assert result.stdout == "\n\n"
    plain = run("-l", "tracepoint:sched:sched_process_exit")
    assert plain.stdout == "tracepoint:sched:sched_process_exit\n"
    verbose = run("-lv", "tracepoint:sched:sched_process_exit")
    assert verbose.stdout.startswith("tracepoint:sched:sched_process_exit\n    char comm[16]\n    pid_t pid\n")


@tag("cli.d", "debug", "run.streams")
def test_stages(run: Runner) -> None:
    result = run("-q", "-d", "ast,types,plan", "-d", "codegen", "-d", "codegen-opt,asm", "-e", "begin { @a = 1; }")
    assert result.status == 0
    assert result.stderr.startswith("AST after: parser\n---")
    headers = [line for line in result.stdout.splitlines() if line.startswith(("Types", "Plan", "LLVM IR", "BPF "))]
    assert headers == [
        "Types", "Plan", "LLVM IR before optimization", "LLVM IR after optimization", "BPF assembly",
    ]  # fmt: skip
    assert "define" in result.stdout
    assert result.stdout.endswith("\n\n@a: 1\n")
    bad = run("-d", "nonsense", "-e", "begin { }")
    assert bad == ("", "ERROR: USAGE: invalid option for -d: nonsense\n", 1)


@tag("cli.d", "debug")
def test_stages_of_the_kernel(run: Runner) -> None:
    shown = run("-q", "-d", "verifier,libbpf", "-e", "begin { @a = 1; }").stdout
    assert re.search(r"^BPF verifier log for \w+:\n-+\n(.*\n)*processed \d+ insns", shown, re.M)
    assert re.search(r"^\[DEBUG\] libbpf: ", shown, re.M)


@tag("cli.info", "info", "run.status")
def test_info(run: Runner) -> None:
    result = run("--info")
    assert result.status == 0
    blocks = result.stdout.split("\n\n")
    assert [b.splitlines()[0] for b in blocks] == [
        "System", "Build", "Kernel helpers", "Kernel features", "Probe types",
    ]  # fmt: skip
    assert f"  Arch: {os.uname().machine}" in blocks[0]
    assert re.search(r"^  OS: Linux \S+ .+$", blocks[0], re.M)
    assert re.fullmatch(r"Build\n  version: v\S+\n  LLVM: \S+ \S+\n(  [\w ]+: (yes|no)\n)+", f"{blocks[1]}\n")
    for block, names in {
        2: ["dpath", "get_tai_ns", "get_func_ip", "lookup_percpu_elem"],
        3: ["Instruction limit", "btf", "module btf"],
        4: ["kprobe_multi", "uprobe_multi", "kprobe_session", "iter"],
    }.items():
        lines = blocks[block].rstrip("\n").split("\n")[1:]
        assert all(len(line) % 35 == 0 for line in lines)  # two a line, each padded
        cells = [line[at : at + 35].strip().split(": ") for line in lines for at in range(0, len(line), 35)]
        assert [name for name, _ in cells][: len(names)] == names
        assert {value for _, value in cells} <= {"yes", "no", "1000000"}
    assert "  Instruction limit: 1000000" in blocks[3]  # since Linux 5.2, and pytrace needs 5.15


@tag("rt.caps", "run.status")
def test_without_privileges() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytrace", "-e", "begin {}"],
        preexec_fn=_drop_privileges, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.stderr == "ERROR: Missing CAP_BPF capability, please run pytrace as the root user.\n"
    assert done.returncode == 1


def _drop_privileges() -> None:
    os.setgroups([])
    os.setuid(65534)


# ---------------------------------------------------------------- C headers


@tag("cli.I", "cli.include")
def test_headers(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "answers.h").write_text("#define ANSWER 42\nstruct answer { int x; char y[3]; };\n")
    text = "#include <answers.h>\nbegin { print(ANSWER); print(sizeof(struct answer)); }"
    assert run("-q", "-I", str(tmp_path), "-e", text).stdout == "42\n8\n\n\n"
    (tmp_path / "more.h").write_text("#define MORE (ANSWER + 1)\n")
    words = ("-q", "--include", str(tmp_path / "answers.h"), "--include", str(tmp_path / "more.h"))
    assert run(*words, "-e", "#define X 1\nbegin { print(MORE); }").stdout == "43\n\n\n"


# ---------------------------------------------------------------- what the kernel refuses


@tag("diag.load", "run.status")
def test_the_kernel_refuses_a_program(run: Runner) -> None:
    """An infinite loop is what the verifier always refuses."""
    result = run("-e", "begin { $i = 0; while (true) { $i++; } @ = $i; }")
    assert result.status == 255
    assert re.search(r"ERROR: Error loading BPF program for begin", result.stderr)
    assert "Kernel error log" not in result.stderr
    verbose = run("-v", "-e", "begin { $i = 0; while (true) { $i++; } @ = $i; }")
    assert "\nKernel error log: \n" in verbose.stderr
