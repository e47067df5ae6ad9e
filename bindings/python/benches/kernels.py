"""Many kernels at one client: time to start, memory each at the client, time for one round to all.

python benches/kernels.py [N]  (50 unless told)
"""

from __future__ import annotations

import os
import resource
import sys
import time

from trunkline import Kernels


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with Kernels() as kernels:
        # What the first one brings in is not the others'.
        kernels.start("first")
        kernels.run("1")
        before, begin = resident(), time.monotonic()
        kernels.start(*(f"kernel {i}" for i in range(count - 1)))
        started = time.monotonic() - begin
        # Each one's first statement.
        kernels.run("import os")
        memory = (resident() - before) / max(count - 1, 1)
        rounds = []
        for i in range(5):
            begin = time.monotonic()
            results = kernels.run(f"{i} + os.getpid() * 0", progress=False)
            rounds.append(time.monotonic() - begin)
            wrong = [result for result in results.values() if (result.state, result.stdout) != ("done", f"{i}\n")]
            if wrong:
                print(f"wrong: {wrong[0]}", file=sys.stderr)
                return 1
        print(f"{count} kernels: {started:.2f} s to start, {1000 * started / max(count - 1, 1):.0f} ms each")
        print(f"memory at the client: {memory / 1024:.0f} KiB each")
        print(f"one round to all: {1000 * sorted(rounds)[2]:.1f} ms (median of 5)")
        begin = time.monotonic()
    print(f"{time.monotonic() - begin:.2f} s to end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
