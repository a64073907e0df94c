"""Run one command as root under another Linux kernel, on the files of this host.

    python tests/vm/vmrun.py -k 6.1 -- uname -r
    python tests/vm/vmrun.py -k 6.12 "bpftrace -l 'kprobe:vfs_*' | wc -l"    # one word: a shell line

The command has this folder and environment. It sees every file of the host and may write anywhere, but
nothing it writes outlives the run, except below a --rw folder. The exit status is the command's; 124: the
time limit passed; 125: the guest could not be booted.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # as `python -m tests.vm.vmrun` has it

from tests.vm import guest, kernel  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vmrun", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-k", "--kernel", default="6.1", help="6.1, 6.12 or an exact release (6.1)")
    parser.add_argument("-t", "--timeout", type=float, default=600, metavar="S", help="seconds (600)")
    parser.add_argument("-m", "--memory", type=int, default=2048, metavar="MB", help="(2048)")
    parser.add_argument("-n", "--cpus", type=int, default=2, help="(2)")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="K=V", help="set in the guest")
    parser.add_argument("--rw", action="append", type=Path, default=[], metavar="DIR", help="share writable")
    parser.add_argument("-v", "--verbose", action="store_true", help="say how long boot and command took")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if wrong := [item for item in options.env if "=" not in item]:
        parser.error(f"--env takes NAME=VALUE, not {wrong[0]}")
    return options


def main() -> int:
    options = arguments()
    # as an exception, so that the guest and the temporary folder are cleaned up
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        kernel.check_tools()
        booted = kernel.find(options.kernel)
        job = guest.Job(
            command=options.command,
            cwd=Path.cwd(),
            env=dict(os.environ) | dict(item.split("=", 1) for item in options.env),
            writable=[folder.resolve(strict=True) for folder in options.rw],
            limit=options.timeout,
            memory=options.memory,
            cpus=options.cpus,
        )
        outcome = guest.run(booted, job)
    except guest.TimeLimit:
        print(f"vmrun: the time limit of {options.timeout:g} s passed", file=sys.stderr)
        return 124
    except (kernel.VMError, OSError) as error:
        print(f"vmrun: {error}", file=sys.stderr)
        return 125
    except KeyboardInterrupt:
        return 130
    if options.verbose:
        times = f"boot {outcome.boot:.1f} s, command {outcome.ran:.1f} s"
        print(f"vmrun: {booted.release}: {times}", file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
