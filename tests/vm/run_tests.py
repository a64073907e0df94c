"""Run the tests marked `vm` or `everywhere` under other kernels: one boot for each kernel, all tests in it.

    python tests/vm/run_tests.py                                  # 6.1, then 6.12
    python tests/vm/run_tests.py --kernel 6.1 -k fentry -x        # what is not known here goes to pytest
    python tests/vm/run_tests.py tests/e2e/test_maps.py           # only these tests
    python tests/vm/run_tests.py --all --kernel 6.1               # all end-to-end tests, whatever their marks

In the guest these are set: PYTRACE_VM ("6.1"), PYTRACE_RESULTS (a folder: files put there stay on the
host, beside junit-6.1.xml), PYTRACE_SLOWDOWN (what to multiply a test's time limits by). The last line for
each kernel is a summary; the exit status is pytest's, 124 at the time limit, 125 when the guest could not
be booted, and never 0 when no test ran.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # as `python -m tests.vm.run_tests` has it

from tests.vm import guest, kernel  # noqa: E402

SLOWDOWN = 30  # of starting a process without hardware virtualisation
NO_TESTS = 5  # pytest.ExitCode.NO_TESTS_COLLECTED
CHECKS = "tests/vm/guest_checks.py"


@dataclass(frozen=True, slots=True)
class Counts:
    """What the junit file says; a test that broke in its set-up counts as failed."""

    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def counts(junit: Path) -> Counts:
    """Raises VMError when pytest wrote no result."""
    try:
        suite = ET.parse(junit).getroot().find("testsuite")
    except (FileNotFoundError, ET.ParseError):
        suite = None
    if suite is None:
        raise kernel.VMError("pytest wrote no result: see what it said above")
    total, failures, errors, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
    return Counts(total - failures - errors - skipped, failures + errors, skipped)


def pytest_command() -> list[str]:
    venv = ROOT / ".venv/bin/python"
    python = str(venv) if venv.exists() else sys.executable
    return [python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "vm or everywhere"]


def environment() -> dict[str, str]:
    # looking for plugins and loading hypothesis's takes the guest 8 seconds
    return dict(os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def collect(chosen: Sequence[str]) -> list[str]:
    """What to give pytest in the guest: `chosen`, and without a path in it the files which hold chosen tests.

    Collecting on the host finds mistakes before a boot, spares the guest the import of all other tests, and
    leaves every module compiled. Exits with pytest's status when it fails or finds no test.
    """
    env = environment()
    for name in ("PYTRACE_RESULTS", "PYTHONDONTWRITEBYTECODE"):
        env.pop(name, None)
    owner = ROOT.stat()  # under sudo, root must not leave files of its own in the checkout
    user, group = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (None, None)
    command = [*pytest_command(), *chosen, "--collect-only", "--verbosity=-1"]  # a line for each test
    got = subprocess.run(command, cwd=ROOT, env=env, user=user, group=group, capture_output=True, text=True)
    if got.returncode:
        print(got.stdout + got.stderr)
        sys.exit(got.returncode)
    folders = ["pytrace", "grammar", "codegen", "runtime", "tests/vm"]
    compile_all = [command[0], "-m", "compileall", "-q", *folders]
    subprocess.run(compile_all, cwd=ROOT, env=env, user=user, group=group)
    if any(in_checkout(word) for word in chosen):
        return list(chosen)
    files = {line.split("::")[0] for line in got.stdout.splitlines() if "::" in line and in_checkout(line)}
    assert files, got.stdout
    return [*chosen, CHECKS, *sorted(files)]


def in_checkout(test: str) -> bool:
    """Whether `test` is a file, a folder or a test in a file: "tests/e2e/test_maps.py::test_zero"."""
    return (ROOT / test.split("::")[0]).exists()


def run_batch(name: str, chosen: Sequence[str], results: Path, limit: float) -> int:
    """The status of a batch under kernel `name`, whose files stay in `results`; prints the summary."""
    results.mkdir(parents=True, exist_ok=True)
    junit = results / f"junit-{name}.xml"
    junit.unlink(missing_ok=True)
    slowdown = 1 if guest.has_kvm() else SLOWDOWN
    variables = {"PYTRACE_VM": name, "PYTRACE_RESULTS": str(results), "PYTRACE_SLOWDOWN": str(slowdown)}
    hang = f"faulthandler_timeout={limit / 4:g}"  # a test that hangs shows where
    job = guest.Job(
        command=[*pytest_command(), *chosen, "-o", hang, f"--junit-xml={junit}"],
        cwd=ROOT,
        env=environment() | variables,
        writable=[results],
        limit=limit,
    )
    try:
        outcome = guest.run(kernel.find(name), job)
        found = counts(junit)
    except guest.TimeLimit:
        print(f"{name}: the time limit of {limit:g} s passed")
        return 124
    except kernel.VMError as error:
        print(f"{name}: {error}")
        return 125
    print(f"{name}: {found} (boot {outcome.boot:.0f} s, tests {outcome.ran:.0f} s, {junit})")
    return outcome.status or (0 if found.passed + found.failed else NO_TESTS)


def results_folder(name: str) -> Path:
    """PYTRACE_RESULTS, or a folder for each kernel in build/, emptied."""
    if given := os.environ.get("PYTRACE_RESULTS"):
        return Path(given).resolve()
    folder = ROOT / "build/vm" / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--kernel", action="append", metavar="K", help="may be repeated (6.1 and 6.12)")
    parser.add_argument("--all", action="store_true", help="all of tests/e2e, not only what is marked for this")
    parser.add_argument("--limit", type=float, default=3600, metavar="S", help="for each kernel (3600)")
    options, chosen = parser.parse_known_args()
    # as an exception, so that the guest and the temporary folder are cleaned up
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        kernel.check_tools()
    except kernel.VMError as error:
        print(f"run_tests: {error}", file=sys.stderr)
        return 125
    if options.all:
        paths = [] if any(in_checkout(word) for word in chosen) else ["tests/e2e"]
        chosen = ["-m", "vm or not vm", *chosen, *paths]
    tests = collect(chosen)
    statuses = [run_batch(name, tests, results_folder(name), options.limit) for name in options.kernel or kernel.SERIES]
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main())
