"""The words of the command line: mixing, spellings, every message of the reference."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import pytrace
from pytrace.arguments import OPTIONS, STAGES, Arguments, UsageError, parse, usage


def refused(*words: str) -> UsageError:
    """The error for words that are no good."""
    with pytest.raises(UsageError) as caught:
        parse(words)
    return caught.value


def test_options_and_words_mix() -> None:
    got = parse(["-q", "prog.bt", "1", "-v", "two", "--unsafe"])
    assert (got.file, got.parameters) == ("prog.bt", ("1", "two"))
    assert got.quiet
    assert got.verbose
    assert got.unsafe


def test_with_a_program_all_words_are_parameters() -> None:
    got = parse(["a", "-e", "begin {}", "b"])
    assert (got.program, got.file, got.parameters) == ("begin {}", None, ("a", "b"))


def test_the_last_program_wins_and_an_empty_one_is_none() -> None:
    assert parse(["-e", "x", "-e", "y"]).program == "y"
    assert parse(["-e", ""]).program is None


def test_behind_two_dashes() -> None:
    got = parse(["prog.bt", "a", "--", "--depth=3", "-5", "--all", "b"])
    assert got.named == ("--depth=3", "--all")
    assert got.parameters == ("a", "-5", "b")
    assert parse(["--", "prog.bt", "1"]).file == "prog.bt"


def test_spellings() -> None:
    assert parse(["-lv"]) == parse(["-l", "-v"]) == parse(["--list", "--verbose"])
    assert parse(["--li", "--verb"]) == parse(["-lv"])
    assert parse(["--dwarf-pid", "12", "-p3", "--dwarf-pid=0x7"]).dwarf_pids == (12, 7)
    assert parse(["-p12"]) == parse(["-p", "12"]) == parse(["--pid=12"]) == parse(["--pid", "12"])
    assert parse(["-qe", "x"]).program == "x"
    assert parse(["-"]).file == "-"


def test_repeated_options_add_up() -> None:
    got = parse(["-I", "/a", "-I/b", "--include", "x.h", "--include=y.h", "-d", "ast", "-d", "plan,ir"])
    assert got.include_dirs == ("/a", "/b")
    assert got.include == ("x.h", "y.h")
    assert got.stages == {"ast", "plan", "codegen"}
    assert parse(["-d", "all"]).stages == set(STAGES)


def test_bytes_that_are_not_utf8_reach_the_program() -> None:
    assert parse(["-e", "\udcff"]).program == "\udcff"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-p x", "ERROR: Failed to parse pid: invalid integer: x"),
        ("--dwarf-pid x", "ERROR: Failed to parse pid: invalid integer: x"),
        ("--dwarf-pid 4194305", "ERROR: Pid out of range: 4194305"),
        ("-p 111a1", "ERROR: Failed to parse pid: invalid trailing bytes: 111a1"),
        ("-p 4194305", "ERROR: Pid out of range: 4194305"),
        ("-p -3", "ERROR: Pid out of range: -3"),
        ("-p 1 -c ls", "ERROR: USAGE: Cannot use both -c and -p."),
        ("-f xml", "ERROR: Invalid output format \"xml\"\nValid formats: 'text', 'json'"),
        ("-B some", "ERROR: USAGE: -B must be either 'line', 'full', or 'none'."),
        (
            "-kk",
            "ERROR: USAGE: -kk has been deprecated. Use a single -k for runtime warnings for errors in map "
            "lookups and probe reads.",
        ),
        ("-k --no-warnings", "ERROR: USAGE: -k, --warnings conflicts with --no-warnings"),
        ("--no-warnings --warnings", "ERROR: USAGE: -k, --warnings conflicts with --no-warnings"),
        ("-d nonsense", "ERROR: USAGE: invalid option for -d: nonsense"),
        (
            "--mode x",
            "ERROR: USAGE: --mode can only be 'codegen', 'compiler-bench', 'bench', 'test' or 'format'.",
        ),
        (
            "--no-feature x",
            "ERROR: USAGE: --no-feature can only have values 'kprobe_multi,kprobe_session,uprobe_multi'.",
        ),
        ("-e", "ERROR: USAGE: option '-e' requires an argument"),
        ("--quiet=1", "ERROR: USAGE: option '--quiet' doesn't allow an argument"),
        ("-Z", "ERROR: USAGE: invalid option -- 'Z'"),
        ("--in", "ERROR: USAGE: option '--in' is ambiguous"),
        ("--test --bench", "ERROR: USAGE: --bench conflicts with existing --mode"),
        ("--mode test --mode bench", "ERROR: USAGE: --mode conflicts with existing --mode"),
        ("--bench --fmt", "ERROR: USAGE: --fmt conflicts with existing --mode"),
        ("--mode codegen --test", "ERROR: USAGE: --test conflicts with existing --mode"),
        (
            "--no-feature kprobe_multi,x",
            "ERROR: USAGE: --no-feature can only have values 'kprobe_multi,kprobe_session,uprobe_multi'.",
        ),
    ],
)
def test_refusals(words: str, text: str) -> None:
    assert refused(*words.split()).text == text


@pytest.mark.tag("cli.mode", "cli.test", "cli.bench", "cli.fmt")
def test_modes() -> None:
    assert parse(["--fmt"]) == parse(["--mode", "format"])
    assert parse(["--test"]) == parse(["--mode", "test"])
    assert parse(["--bench"]) == parse(["--mode=bench"])
    assert parse(["--mode", "compiler-bench"]).mode == "compiler-bench"
    assert parse([]).mode == ""


@pytest.mark.tag("cli.no-feature", "cli.verify-ir")
def test_features_to_do_without() -> None:
    found = parse(["--no-feature", "kprobe_multi,uprobe_multi", "--no-feature", "kprobe_session", "--verify-llvm-ir"])
    assert found.without == {"kprobe_multi", "uprobe_multi", "kprobe_session"}


def test_a_near_option_is_offered() -> None:
    error = refused("--unsfe")
    assert error.text == "ERROR: USAGE: unrecognized option '--unsfe'"
    assert error.hint == "Did you mean --unsafe?"


def test_the_usage_follows_where_two_options_exclude_each_other() -> None:
    assert refused("-p", "1", "-c", "ls").usage


def test_an_option_without_effect() -> None:
    assert parse(["-b"]) == parse(["--btf"]) == Arguments()


def test_every_option_is_in_the_usage() -> None:
    text = usage()
    for option in OPTIONS:
        for name in option.names:
            assert re.search(rf"^    .*{re.escape(name)}[ ,]", text, re.M), name
    assert all(len(line) <= 110 for line in text.splitlines())


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["version"] == pytrace.__version__
