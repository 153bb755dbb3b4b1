"""Pairs that do not fit into memory: a stream of windows, the next one read while the present one is trained on.

A window is `--window` rows of the data, decoded and held as `Pairs`; within it, batches are as fair as ever
(`BatchOrder`). What a step sees is a function of the seed and the step: a resumed run reads up to its window without
decoding, and goes on exactly.

- Every process has rows of its own: each its own shards if their number is a multiple of that of the processes, else
  every n-th row of each. The global batch is the union. (So, unlike in memory, the number of processes changes what
  a batch holds.)
- The order of the shards is drawn anew for every pass over the data; rows of a shard follow one another, so data
  sorted by class should be shuffled when its shards are written.
- A pass over the data ends within a window, which the next pass fills: nothing is dropped.
- Local shards are read by `minclip.own_data`, which stands anything; the hub and remote shards by `datasets`.
"""

from collections.abc import Iterator
from itertools import chain, islice
from queue import SimpleQueue
from threading import Thread

import torch

from minclip.batches import BatchConfig, fair_groups, tokenise
from minclip.data import BatchOrder, Pairs, load_pairs, step_generator
from minclip.hub_data import open_data
from minclip.sources import attempt, check_skipped, collect
from minclip.tokenizer import CaptionTokens, Tokenizer


class Feed:
    """What each step trains on. Pairs in memory are a stream of one window, which lasts for the whole run.

    pairs: those to train on, if not those that `config.data` names; rank, n_processes: which part of a stream is
    this process's. `skipped` has what was left out so far, again each time it was read (not what a resumed run had
    read before).
    """

    def __init__(self, config: BatchConfig, pairs: Pairs | None = None, rank: int = 0, n_processes: int = 1) -> None:
        reading = config.reading
        self.config, self.rank, self.n_processes, self.number = config, rank, n_processes, -1
        self.ready, self.skipped = SimpleQueue(), []
        if pairs is not None or not reading.streaming:
            pairs = load_pairs(config.data, config.split, None, reading) if pairs is None else pairs
            self.steps, self.batch_size, self.skipped = config.max_steps, config.batch_size, pairs.skipped
            self.windows = lambda number: iter([pairs])
            return
        self.source = open_data(config.data, config.split, reading)
        first = collect(islice(self.source.rows(), 16), self.source.where)["images"]
        side, size = first.shape[-1], config.model.image_size
        self.side = side if side <= 3 * size else 2 * size  # what `Pairs.images_for` would make of it
        self.window, self.batch_size = reading.window // n_processes, config.batch_size // n_processes
        self.steps = reading.window * reading.window_passes // config.batch_size
        self.windows = self.read_windows

    def pairs_at(self, step: int) -> Pairs:
        """The window of a step; steps must follow one another, beginning anywhere."""
        number = step // self.steps
        if number != self.number:
            if self.number < 0:
                self.reader = self.windows(number)
                self.read_ahead()
            self.pairs, self.number, self.prepared = self.ready.get(), number, None
            if isinstance(self.pairs, Exception):
                raise self.pairs
            if (number + 1) * self.steps < self.config.max_steps:
                self.read_ahead()
        return self.pairs

    def read_ahead(self) -> None:
        """Begin to read the next window; `ready` gets it, or the exception that it raises."""
        Thread(target=lambda: self.ready.put(attempt(next, self.reader)), daemon=True).start()

    def at(self, step: int, tokenizer: Tokenizer) -> tuple[Pairs, CaptionTokens, BatchOrder]:
        """What `minclip.batches.make_batch` needs for a step; of a stream, `order` has this process's rows alone."""
        pairs = self.pairs_at(step)
        if not self.prepared:
            groups, start = fair_groups(pairs, self.batch_size), self.number * self.steps
            order = BatchOrder(groups, self.batch_size, self.config.seed, start)
            self.prepared = pairs, tokenise(pairs, tokenizer, self.config), order
        return self.prepared

    def read_windows(self, number: int) -> Iterator[Pairs]:
        """The windows from the given one on, for ever. Raises ValueError where too much of them must be skipped."""
        rows, seen = self.read_rows(number * self.window), 0
        where, names, workers = self.source.where, self.source.class_names, self.config.reading.workers
        while True:
            columns = collect(islice(rows, self.window), where, self.side, names, workers)
            seen += self.window
            self.skipped += columns["skipped"]
            check_skipped(self.skipped, seen - len(self.skipped), where)
            yield Pairs(**columns)

    def read_rows(self, start: int) -> Iterator[tuple[str, object]]:
        """This process's rows from row `start` on, pass after pass. A pass is the same rows, in another order.

        To find row `start` costs the reading of at most two passes, without decoding.
        """
        parts, epoch, (rank, n) = self.source.parts, 0, (self.rank, self.n_processes)
        mine, first, stride = (parts[rank::n], 0, 1) if len(parts) % n == 0 else (parts, rank, n)
        while True:
            deck = torch.randperm(len(mine), generator=step_generator(self.config.seed, 9, epoch)).tolist()
            rows, count = chain.from_iterable(islice(mine[i](), first, None, stride) for i in deck), 0
            for count, row in enumerate(rows, 1):
                if count > start:
                    yield row
            if not count:
                raise ValueError(f"{self.source.where}: nothing to read for process {rank} of {n}")
            epoch, start = epoch + max(1, start // count), start % count if start >= count else 0
