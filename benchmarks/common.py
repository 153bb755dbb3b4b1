"""What the benchmarks share: their inputs, a meter of memory, fresh processes, and how they print."""

import contextlib
import faulthandler
import multiprocessing
import os
import platform
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

START = {"sigmoid": (10.0, -10.0), "softmax": (1 / 0.07,)}  # exp(logit_scale)[, logit_bias] as the papers begin


class OutOfMemory(RuntimeError):
    """A measurement had too little memory."""


def make_leaves(
    loss: str, batch_size: int, dim: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """What a loss is differentiated in: random unit features `[B, D]` twice, the log scale and, for sigmoid, the bias.

    The features have `dtype`; the scalars too, but at least float32. Always the same numbers.
    """
    generator = torch.Generator().manual_seed(0)
    features = [F.normalize(torch.randn(batch_size, dim, generator=generator), dim=1).to(dtype) for _ in range(2)]
    scale, *bias = (torch.tensor(x, dtype=torch.promote_types(dtype, torch.float32)) for x in START[loss])
    return [x.to(device).requires_grad_() for x in (*features, scale.log(), *bias)]


def value_and_gradients(loss_fn: Callable, leaves: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One forward and one backward: what is timed."""
    value = loss_fn(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


class PeakMemory:
    """`with PeakMemory(device) as memory: ...`, then `memory.extra`: bytes at the worst moment beyond those before.

    CUDA: what torch's allocator has given out. Linux: the process's resident memory, whose high-water mark can be
    reset. Elsewhere the mark of the process's whole life: believe only the first block in a fresh one.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.cuda, self.extra = device.startswith("cuda"), 0

    def __enter__(self) -> "PeakMemory":
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # high-water mark := resident now (man proc)
        self.before = self.mark()
        return self

    def __exit__(self, *_) -> None:
        if self.cuda:
            torch.cuda.synchronize()
        self.extra = self.mark() - self.before

    def mark(self) -> int:
        """The most bytes at once since the last reset."""
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        status = Path("/proc/self/status")
        if status.exists():
            return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory() -> float:
    """Bytes that can be taken on this machine; infinity if it does not say."""
    meminfo = Path("/proc/meminfo")
    free = [1024 * int(re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text())[1])] if meminfo.exists() else []
    for folder, *names in (  # a container's own limit, in the second and the first version of control groups
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file; "max", which is none
            limit, used = (int(Path(folder, name).read_text()) for name in names)
            free.append(limit - used)
    return min(free, default=float("inf"))


def in_fresh_process(function: Callable, *arguments, timeout: float):
    """`function(*arguments)`, computed in a process of its own.

    The process is forked from a server that has imported torch but computed nothing: fresh, and there at once.
    Raises OutOfMemory where memory gave out, TimeoutError after `timeout` seconds, and RuntimeError with the
    traceback for any other error. In every case the process is gone.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["torch", "minclip.chunked_loss"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, timeout, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise TimeoutError(f"stopped after {timeout:g} s")
        error, result = receiver.recv()
    except EOFError:
        process.join(timeout=10)
        if process.exitcode == -9:
            raise OutOfMemory("killed by the system, most likely for want of memory") from None
        raise RuntimeError(f"a process of the benchmark died with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if error is not None:
        raise error
    return result


def _answer(sender, timeout: float, function: Callable, arguments: tuple) -> None:
    """In the fresh process: compute, answer, end; and end in any case, should nobody be waiting any more."""
    faulthandler.dump_traceback_later(timeout + 10, exit=True)
    try:
        sender.send((None, function(*arguments)))
    except (MemoryError, OutOfMemory, torch.OutOfMemoryError) as error:
        sender.send((OutOfMemory(str(error).split("\n")[0]), None))
    except Exception as error:
        kind = OutOfMemory if "DefaultCPUAllocator: can't allocate" in str(error) else RuntimeError
        sender.send((kind(f"in a process of the benchmark:\n{traceback.format_exc()}"), None))


def machine(device: str, script: str, flags: Sequence[str]) -> dict:
    """Which command ran where: the head of a result file."""
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    else:
        cpuinfo = Path("/proc/cpuinfo")
        model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
        name = f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"
    command = shlex.join(["python", f"benchmarks/{Path(script).name}", *flags])
    return {"command": command, "device": name, "torch": torch.__version__, "threads": torch.get_num_threads()}


def table_head(columns: dict[str, int]) -> str:
    """The two first lines of a Markdown table with these names and widths; negative widths: to the left."""
    rule = [("-" * -width) if width < 0 else "-" * (width - 1) + ":" for width in columns.values()]
    return table_line(columns, columns) + "\n| " + " | ".join(rule) + " |"


def table_line(columns: dict[str, int], cells: Sequence[str]) -> str:
    """One line of that table."""
    padded = [cell.ljust(-width) if width < 0 else cell.rjust(width) for cell, width in zip(cells, columns.values())]
    return "| " + " | ".join(padded) + " |"
