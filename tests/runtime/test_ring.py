"""The reader of the ring buffer, on rings of this kernel."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterator

import pytest

from pytrace.grammar.attaching import OnDemand, TracepointAttach
from pytrace.runtime import ring as reader
from pytrace.runtime.ring import closest_power_of_two, ring_size
from pytrace.runtime.tracer import Tracer
from tests.runtime.objects import Code, ring, send, tracer

BEGIN = (OnDemand("begin", "begin"),)
NO_WAKEUP = 1


@pytest.mark.tag("ev.size")
@pytest.mark.parametrize(
    ("value", "closest"), [(256, 256), (257, 256), (383, 256), (384, 512), (16544, 16384), (1, 1), (3, 4)]
)
def test_the_closest_power_of_two(value: int, closest: int) -> None:
    assert closest_power_of_two(value) == closest


@pytest.mark.tag("ev.size")
def test_the_size_is_as_configured_and_never_below_a_page_for_each_cpu() -> None:
    assert ring_size(64, 2) == 64 * mmap.PAGESIZE
    assert ring_size(65, 2) == 128 * mmap.PAGESIZE
    assert ring_size(1, 6) == 8 * mmap.PAGESIZE


@pytest.mark.tag("ev.size")
def test_the_size_by_available_memory_is_within_its_bounds() -> None:
    size = ring_size(0, 2)
    assert 256 * 1024 <= size <= 16384 * 1024
    assert size & (size - 1) == 0


class TestLiveRing:
    pytestmark = pytest.mark.root

    @pytest.fixture
    def run(self) -> Iterator[Tracer]:
        """Each `begin` sends 100 records of three words: 7, the record's number, 9."""
        with tracer([ring()], [Code("send", "raw_tp", send([7, 0, 9], 100), BEGIN)], perf_rb_pages=4) as run:
            run.load()
            yield run

    def test_records_arrive_in_order(self, run: Tracer) -> None:
        run.run_on_demand("begin")
        records: list[bytes] = []
        assert run.poll(0, records.extend) == 100
        assert [words(r) for r in records] == [[7, i, 9] for i in range(100)]

    def test_records_are_whole_when_the_ring_wraps(self, run: Tracer) -> None:
        for _ in range(40):  # 100 records of 32 bytes each time, in a ring of 16 kB
            run.run_on_demand("begin")
            records: list[bytes] = []
            assert run.poll(0, records.extend) == 100
            assert [words(r) for r in records] == [[7, i, 9] for i in range(100)]

    def test_a_full_ring_keeps_its_oldest_records(self, run: Tracer) -> None:
        for _ in range(10):
            run.run_on_demand("begin")
        records: list[bytes] = []
        # one byte stays free in the kernel's accounting, so the last record does not fit
        assert run.poll(0, records.extend) == 4 * mmap.PAGESIZE // 32 - 1
        assert words(records[300]) == [7, 0, 9]

    def test_an_empty_ring_is_waited_for(self, run: Tracer) -> None:
        before = time.monotonic()
        assert run.poll(150, lambda _: pytest.fail("there is nothing")) == 0
        assert 0.14 < time.monotonic() - before < 1

    def test_wake_ends_the_wait_and_again(self, run: Tracer) -> None:
        for _ in range(2):
            threading.Timer(0.05, run.wake).start()
            before = time.monotonic()
            assert run.poll(5000, lambda _: None) == 0
            assert time.monotonic() - before < 2

    def test_a_wake_before_the_wait_ends_it_at_once_and_only_once(self, run: Tracer) -> None:
        run.wake()
        before = time.monotonic()
        run.poll(5000, lambda _: None)
        assert time.monotonic() - before < 2
        before = time.monotonic()
        run.poll(300, lambda _: None)
        assert time.monotonic() - before > 0.25

    def test_an_error_of_the_handler_passes_and_the_rest_stays_readable(self, run: Tracer) -> None:
        run.run_on_demand("begin")

        def fail(_: list[bytes]) -> None:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            run.poll(0, fail)
        run.run_on_demand("begin")
        assert run.poll(0, lambda _: None) == 100


@pytest.mark.root
class TestGathering:
    """After many records more may gather; each `begin` sends 100, as many as it takes for that."""

    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
        monkeypatch.setattr(reader, "FASTEST", 1)
        monkeypatch.setattr(reader, "LONGEST", 0.3)
        with tracer([ring()], [Code("send", "raw_tp", send([7, 0, 9], 100), BEGIN)], perf_rb_pages=64) as run:
            run.load()
            run.run_on_demand("begin")
            assert run.poll(0, lambda _: None) == 100
            yield run

    def test_records_do_not_end_it(self, run: Tracer) -> None:
        run.run_on_demand("begin")
        before = time.monotonic()
        assert run.poll(5000, lambda _: None) == 100
        assert time.monotonic() - before > 0.28

    def test_a_wake_ends_it_and_the_wait_for_records(self, run: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "LONGEST", 60)
        run.wake()
        before = time.monotonic()
        assert run.poll(60_000, lambda _: None) == 0
        assert time.monotonic() - before < 30

    def test_a_ring_that_fills_is_emptied_at_once(self, run: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "LONGEST", 60)
        for _ in range(11):  # of 3,200 bytes, in a ring of 256 kB
            run.run_on_demand("begin")
        before = time.monotonic()
        assert run.poll(60_000, lambda _: None) == 1100
        assert time.monotonic() - before < 30

    def test_a_small_ring_is_not_left_alone(self, run: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "SHORTEST", 61)
        monkeypatch.setattr(reader, "LONGEST", 60)
        run.run_on_demand("begin")
        before = time.monotonic()
        assert run.poll(60_000, lambda _: None) == 100
        assert time.monotonic() - before < 30


@pytest.mark.root
@pytest.mark.parametrize("flags", [0, NO_WAKEUP])
def test_what_a_probe_sends_ends_the_wait_even_without_waking_us(flags: int) -> None:
    place = TracepointAttach("tracepoint:syscalls:sys_enter_getpgid", "syscalls", "sys_enter_getpgid")
    code = Code("send", "tracepoint", send([1, 0], flags=flags), (place,))
    with tracer([ring()], [code]) as run:
        run.load()
        run.attach()
        threading.Timer(0.05, lambda: os.getpgid(0)).start()
        before = time.monotonic()
        records: list[bytes] = []
        while not records and time.monotonic() - before < 5:
            run.poll(5000, records.extend)
        assert records
        assert time.monotonic() - before < 1


def words(record: bytes) -> list[int]:
    """The u64s of a record."""
    return list(memoryview(record).cast("Q"))
