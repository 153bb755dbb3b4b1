"""What ends a run before its time, told in one sentence: NaN, a signal, another process that is no more.

Nothing here makes a GPU wait: what a step computed is summed up on the device and looked at with the log's next line.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from torch import Tensor, nn

from minclip.data import BatchOrder
from minclip.sharding import whole

SIGNS = ("features", "loss", "gradients")  # in the order in which a step computes them
LOST = ("gloo", "NCCL", "Connection", "recv", "timed out")  # words of the errors that the end of another process causes


def watched(loss_fn: Callable[..., Tensor], seen: list[Tensor]) -> Callable[..., Tensor]:
    """The loss function, appending to `seen` a number that is finite if the features are (they have length 1)."""

    def loss(image_features: Tensor, text_features: Tensor, *scalars: Tensor) -> Tensor:
        seen.append(image_features.detach().sum() + text_features.detach().sum())
        return loss_fn(image_features, text_features, *scalars)

    return loss


def check_finite(signs: list[list[float]], first_step: int, order: BatchOrder, output: Path | None) -> None:
    """Raise FloatingPointError at the first step (counted from 1) whose `SIGNS` are not all finite."""
    for step, values in enumerate(signs, first_step):
        for name, value in zip(SIGNS, values):
            if not math.isfinite(value):
                raise diverged(f"the {name} became {value}", step, order, output)


def check_weights(model: nn.Module, step: int, order: BatchOrder, output: Path | None) -> None:
    """Raise FloatingPointError if a weight is NaN or infinite after `step` steps: such a model is never kept."""
    for name, tensor in model.state_dict().items():
        if not whole(tensor).isfinite().all():
            raise diverged(f"{name} became NaN or infinite", step, order, output)


def diverged(what: str, step: int, order: BatchOrder, output: Path | None) -> FloatingPointError:
    """The error that names the step, its pairs and the last checkpoint."""
    rows = order.indices(step - 1).tolist()
    pairs = ", ".join(map(str, rows[:8])) + f", ... (BatchOrder.indices({step - 1}) has all {len(rows)})"
    kept = last_checkpoint(output)
    return FloatingPointError(f"{what} at step {step}, on pairs {pairs}; {kept}; lower --lr or use --precision fp32")


def last_checkpoint(output: str | Path | None) -> str:
    """Which checkpoint there is to go on from, in words."""
    files = sorted(Path(output, "state").glob("step_*.pt")) if output else []
    return f"the last checkpoint is {files[-1]}" if files else "there is no checkpoint"


def lost_another(error: RuntimeError, output: str) -> str:
    """What to say of an error of torch's that the end of another process has caused; raises any other again."""
    if not any(word in str(error) for word in LOST):
        raise error
    return f"another process of this run has ended; {last_checkpoint(output)}; --resume goes on ({error})"


@contextmanager
def noted_signals(wanted: bool, alone: bool) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C are only noted, in the list, so that a run can stop where it can be gone on with.

    In the main thread only. A second Ctrl-C interrupts at once; not if there are several processes, which get the
    first one twice: from the terminal and from their launcher. A signal that was ignored stays so.
    """
    noted: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if alone and number == signal.SIGINT and number in noted:
            raise KeyboardInterrupt
        noted.append(number)

    taken = (signal.SIGTERM, signal.SIGINT) if wanted and threading.current_thread() is threading.main_thread() else ()
    old = {n: signal.signal(n, note) for n in taken if signal.getsignal(n) not in (None, signal.SIG_IGN)}
    try:
        yield noted
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
