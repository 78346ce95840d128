"""One contender in a process of its own: reads commands, one JSON value a line, and answers each by one line.

It is started by `peers`, with the contender, the workload, the number of its sizes and a folder of arrays.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CONTENDERS
from digest import digest, nbytes
from workloads import find

WARM = 0.03  # seconds of calls that are not counted at the start of a turn


def peak_memory() -> int:
    """Bytes resident at the peak. Of the process since it began to run Python, which `getrusage` does not tell."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def release() -> None:
    """Memory that is free goes back to the system: others run while this process waits."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


class Worker:
    def __init__(self, name: str, workload: str, row: int, folder: Path) -> None:
        self.name, self.contender = name, CONTENDERS[name]
        self.workload = find(workload)
        self.sizes = self.workload.sizes[row]
        self.data = {array: np.load(folder / f"{array}.npy") for array in self.workload.shapes}
        importlib.import_module(self.contender.package)
        self.adopted = self.contender.adopt(self.data)

    def first(self) -> dict[str, Any]:
        """The first result: from nothing but the data to the value. Then a second, which nothing is prepared for."""
        start = time.perf_counter()
        self.call = self.contender.make(self.workload, self.sizes, self.adopted)
        result = self.call()
        seconds = time.perf_counter() - start
        answer = {"first": seconds, "peak": peak_memory(), "bytes": nbytes(result)}
        if not self.workload.symbolic:
            if self.name == "by hand" and self.workload.expand is not None:
                result = self.workload.expand(result, **self.data)
            answer["digest"] = digest(result)
        del result
        release()
        return answer

    def time(self, repeats: int) -> dict[str, Any]:
        """Seconds of one call. What it returns is freed outside the measured time, but for what repeats overwrite.

        Others have had the caches until now: short calls go on for a while before they are measured.
        """
        gc.disable()
        start = time.perf_counter()
        while repeats > 1 and time.perf_counter() - start < WARM:
            self.call()
        start = time.perf_counter()
        for _ in range(repeats):
            result = self.call()
        seconds = (time.perf_counter() - start) / repeats
        gc.enable()
        del result
        if seconds > 0.1:
            release()
        return {"seconds": seconds}


def die_with_parent() -> None:
    """A call that is long, and answers to nobody any more, would slow down all that is measured after it."""
    if sys.platform == "linux":
        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)


def main() -> None:
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    name, workload, row, folder = sys.argv[1:]
    try:
        worker = Worker(name, workload, int(row), Path(folder))
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            print(json.dumps(getattr(worker, command)(*arguments)), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this contender's answer
        text = str(error).strip().splitlines() or [""]
        print(json.dumps({"error": f"{type(error).__name__}: {text[0]}"[:160]}), file=answers, flush=True)


if __name__ == "__main__":
    main()
