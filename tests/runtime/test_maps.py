"""Reading, clearing and zeroing maps of this kernel."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from pytrace.grammar.plan import MapSpec
from pytrace.runtime import cpus
from pytrace.runtime.maps import LiveMap
from pytrace.runtime.tracer import Tracer
from tests.runtime.objects import Code, map_spec, number, tracer

pytestmark = pytest.mark.root

SPECS = {
    "hash": map_spec("m", "hash", 12, 4, 20_000),
    "lru_hash": map_spec("m", "lru_hash", 8, 16, 20_000),
    "percpu_hash": map_spec("m", "percpu_hash", 8, 12, 20_000),
    "array": map_spec("m", "array", 4, 24, 7),
    "percpu_array": map_spec("m", "percpu_array", 4, 4, 5),
}


@pytest.fixture(params=list(SPECS.values()), ids=list(SPECS))
def spec(request: pytest.FixtureRequest) -> MapSpec:
    made = request.param
    assert isinstance(made, MapSpec)
    return made


@pytest.fixture
def run(spec: MapSpec) -> Iterator[Tracer]:
    with tracer([spec], [Code("nothing", "raw_tp", "  ret i32 0")]) as run:
        run.load()
        yield run


@pytest.fixture
def live(run: Tracer, spec: MapSpec) -> LiveMap:
    return run._map(spec)


def fill(live: LiveMap, count: int) -> dict[bytes, int]:
    """Put `count` entries in, as many as fit; key → number in the value."""
    spec = live.spec
    if spec.kind.endswith("array"):
        count = spec.max_entries
    made = {struct.pack("=I", i).ljust(spec.key_size, b"\xee"): i + 1 for i in range(count)}
    for key, content in made.items():
        live.update(key, content.to_bytes(spec.value_size, "little"))
    return made


def per_cpu(spec: MapSpec) -> int:
    return cpus.possible() if spec.per_cpu else 1


def test_all_entries_are_read(run: Tracer, live: LiveMap, spec: MapSpec) -> None:
    made = fill(live, 10_000)
    entries = list(run.read_map(spec))
    assert {key: number(value) // per_cpu(spec) for key, value in entries} == made
    assert len(entries) == len(made)


def test_one_by_one_reads_the_same_as_batches(live: LiveMap, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(live, 500)
    batched = live.read()

    def none() -> None:
        raise NotImplementedError

    monkeypatch.setattr(live, "_batches", none)
    assert sorted(live.read()) == sorted(batched)


def test_values_have_their_size_for_every_cpu(run: Tracer, live: LiveMap, spec: MapSpec) -> None:
    fill(live, 1)
    _, value = next(iter(run.read_map(spec)))
    cells = value if isinstance(value, tuple) else (value,)
    assert [len(cell) for cell in cells] == [spec.value_size] * per_cpu(spec)


def test_a_bucket_that_does_not_fit_makes_room(live: LiveMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytrace.runtime.maps._BATCH_BYTES", 1)  # room for one entry at a time
    made = fill(live, 3000)
    assert len(list(live.read())) == len(made)


def test_clear_removes_everything(run: Tracer, live: LiveMap, spec: MapSpec) -> None:
    fill(live, 3000)
    run.clear_map(spec)
    if spec.kind.endswith("array"):
        assert [number(value) for _, value in run.read_map(spec)] == [0] * spec.max_entries
    else:
        assert list(run.read_map(spec)) == []
    run.clear_map(spec)


def test_zero_keeps_the_keys(run: Tracer, live: LiveMap, spec: MapSpec) -> None:
    made = fill(live, 3000)
    run.zero_map(spec)
    assert {key: number(value) for key, value in run.read_map(spec)} == dict.fromkeys(made, 0)


def test_lookup(run: Tracer, live: LiveMap, spec: MapSpec) -> None:
    key = next(iter(fill(live, 1)))
    found = run.lookup(spec, key)
    assert found is not None
    assert number(found) == per_cpu(spec)
    assert run.lookup(spec, b"\xff" * spec.key_size) is None


def test_an_empty_map_has_no_entries(run: Tracer, spec: MapSpec) -> None:
    assert len(list(run.read_map(spec))) == (spec.max_entries if spec.kind.endswith("array") else 0)
