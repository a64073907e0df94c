"""Why stacks are empty, cut or without names: what is said, and that it is said once for each stack."""

from __future__ import annotations

import pytest

from pytrace.grammar.types import Stack
from pytrace.stacknotes import Note, StackNotes

USER, KERNEL = Stack(True), Stack(False)
REASONS = {0x10: ("stripped", "/bin/a"), 0x11: ("stripped", "/bin/b"), 0x20: ("code", ""), 0x99: ("unmapped", "")}


@pytest.fixture
def notes() -> StackNotes:
    return StackNotes(lambda address, pid: REASONS[address], lambda pid: pid == 2)


def said(notes: StackNotes) -> list[str]:
    return [note.text for note in notes.notes()]


def symbol(name: str, file: str = "/lib/libx.so") -> tuple[str, int, str]:
    return name, 0, file


@pytest.mark.parametrize(
    ("kind", "pid", "text"),
    [
        (USER, 2, "NOTE: 1 user stack is empty: kernel threads have none\n"),
        (USER, 0, "NOTE: 1 user stack is empty: it belongs to the idle task or another PID namespace\n"),
        (USER, 7, "NOTE: 1 user stack is empty: the process was starting, ending or could not be read\n"),
        (KERNEL, 0, "NOTE: 1 kernel stack is empty: the CPU was not in the kernel\n"),
    ],
)
def test_empty_stacks(notes: StackNotes, kind: Stack, pid: int, text: str) -> None:
    notes.stack(kind, pid, (), ())
    assert said(notes) == [text]


def test_a_stack_that_is_shown_again_counts_once(notes: StackNotes) -> None:
    for pid in (7, 8, 7):
        notes.stack(USER, pid, (), ())
    assert said(notes) == ["NOTE: 2 user stacks are empty: the process was starting, ending or could not be read\n"]


@pytest.mark.parametrize(
    "last", ["_start", "clone3", "start_thread", "__libc_start_main@@GLIBC_2.34", "runtime.goexit.abi0"]
)
def test_stacks_that_reach_the_beginning_are_whole(notes: StackNotes, last: str) -> None:
    notes.stack(USER, 7, (1, 2), (symbol("f"), symbol(last)))
    notes.stack(USER, 7, (1, 2, 0x99), (symbol("f"), symbol(last), None))
    assert said(notes) == []


def test_stacks_that_are_as_long_as_was_asked_for_are_not_cut(notes: StackNotes) -> None:
    notes.stack(Stack(True, limit=1), 7, (1,), (symbol("f"),))
    notes.stack(USER, 7, (1, 2, 3), tuple(map(symbol, "fgh")))
    assert said(notes) == []


def test_cut_stacks_name_the_file_where_the_walk_went_astray(notes: StackNotes) -> None:
    notes.stack(USER, 7, (1,), (symbol("f"),))
    notes.stack(USER, 7, (1, 2, 3, 0x99, 0x99), (symbol("f"), symbol("g"), symbol("h", "/lib/liby.so"), None, None))
    (note,) = notes.notes()
    assert note.count == 2
    assert note.files == {"/lib/libx.so": 1, "/lib/liby.so": 1}
    assert note.message.startswith("user stacks are cut short by code that keeps no frame pointers")


def test_addresses_without_names(notes: StackNotes) -> None:
    first = symbol("_start")
    notes.stack(USER, 7, (0x10, 0x10, 0x11, 0x20, 1), (None, None, None, None, first))
    assert said(notes) == [
        "NOTE: 3 addresses have no name: the file has no full symbol table (install its debug package): "
        "/bin/a (2), /bin/b (1)\n",
        "NOTE: 1 address has no name: code made at run time, without a /tmp/perf-PID.map\n",
    ]


def test_a_stack_of_rubbish(notes: StackNotes) -> None:
    notes.stack(USER, 7, (0x99, 0x99), (None, None))
    assert said(notes) == ["NOTE: 1 user stack has an address that no mapping of the process holds\n"]


def test_only_the_files_that_were_met_most_are_named() -> None:
    note = Note(10, "m", {"a": 1, "b": 4, "c": 2, "d": 3, "e": 1})
    assert note.text == "NOTE: 10 m: b (4), d (3), c (2) and 2 more\n"
    assert Note(0, "m", {}).text == "NOTE: m\n"
