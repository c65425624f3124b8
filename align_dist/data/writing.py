"""Writes pictures with FFCV's DatasetWriter, so that a dead worker is an error and not a hang.

DatasetWriter waits for a counter that a dead worker never advances, ignores short writes, and cannot
be interrupted cleanly. Here its parts (header, worker, allocation table) are called one by one, while
the main process watches the workers and checks the file's length.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from align_dist.data.catalogue import Sample
from align_dist.data.duplicates import content_hash
from align_dist.data.manifest import ImageField
from align_dist.data.masks import MaskReading, decode_mask
from align_dist.data.pixels import decode_image
from align_dist.data.progress import progress
from align_dist.data.scan import Scanned
from align_dist.errors import DataError, StorageError, UserError
from align_dist.files import locked
from align_dist.machine import check_semaphores

_CHUNK = 50
_SMALLEST_PAGE = 1 << 21


class _Forked:
    """Memory that forked workers share. FFCV's own lies in /dev/shm, of which containers have little, and what is
    written beyond its end kills the writer.
    """

    def __init__(self, create: bool, size: int) -> None:
        self.buf = mmap.mmap(-1, size)


class Pictures:
    """An indexable dataset of (image, *columns[, mask]) tuples.

    columns: whole numbers by field, one for each sample. reading: of masks, None without.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        facts: Sequence[Scanned],
        columns: Mapping[str, Sequence[int]],
        max_side: int,
        reading: MaskReading | None = None,
    ) -> None:
        self.samples, self.facts, self.columns = samples, facts, columns
        self.max_side, self.reading = max_side, reading

    @property
    def has_masks(self) -> bool:
        return self.reading is not None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        sample = self.samples[index]
        try:
            data = sample.path.read_bytes()
            mask = sample.mask.read_bytes() if sample.mask is not None and self.reading else None
        except OSError as error:
            raise DataError(f"{sample.path}: {error.strerror} on a second reading; run again") from None
        if content_hash(data) != self.facts[index].digest:
            raise DataError(f"{sample.path}: changed while the beton was being written; run again")
        record = (decode_image(data, self.max_side), *(column[index] for column in self.columns.values()))
        if mask is None or self.reading is None:
            return record
        return (*record, decode_mask(mask, self.max_side, self.reading))

    def largest_bytes(self) -> int:
        """Raw bytes of the largest sample, its mask included."""
        return max(fact.pixels for fact in self.facts) * (6 if self.has_masks else 3)


@contextmanager
def exclusive_partial(destination: Path) -> Iterator[Path]:
    """`<name>.partial`, locked against a second writer, and removed unless it was renamed."""
    partial = destination.with_name(f"{destination.name}.partial")
    with locked(partial, wait=False) as mine:
        if not mine:
            raise DataError(f"{destination}: another process is writing it; wait for it to finish")
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def interrupts_deferred() -> Iterator[Callable[[], None]]:
    """Ctrl-C takes effect where the function that this gives is called, or else at the end of the block.

    Anywhere else it may be raised in a callback of a weak reference (numba has thousands), or in Python's own hooks
    around a fork, which swallow it. Blocking the signal would not do: other threads get it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))

    def check() -> None:
        # Called, not raised as a signal again: that would be served at some later instruction.
        if received and callable(previous):
            previous(received.pop(), None)

    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)
        check()


def write_pictures(pictures: Pictures, path: Path, image_field: ImageField, workers: int) -> None:
    """Writes all pictures to `path`, in order.

    Raises DataError or StorageError if a worker fails, MachineError where processes cannot work together.
    """
    import cv2

    from align_dist.data.ffcv_compat import DatasetWriter, IntField, RGBImageField

    check_semaphores()
    fields: dict[str, Any] = {
        "image": RGBImageField(write_mode=image_field.mode, jpeg_quality=image_field.quality),
        **{name: IntField() for name in pictures.columns},
    }
    if pictures.has_masks:
        fields["mask"] = RGBImageField(write_mode="raw")
    page = _SMALLEST_PAGE
    while page < 4 * pictures.largest_bytes():
        page *= 2
    writer = DatasetWriter(str(path), fields, page_size=page, num_workers=workers)
    writer.num_samples = len(pictures)
    # OpenCV's threads do not survive a fork; one thread here means that the workers need none.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with interrupts_deferred() as check:
            with _memory_is(_Forked):
                writer.prepare()
            _fill(writer, pictures, check)
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def _memory_is(kind: type) -> Iterator[None]:
    """FFCV's writer takes its shared memory from there while inside."""
    from ffcv import writer

    before = writer.shared_memory
    writer.shared_memory = SimpleNamespace(SharedMemory=kind)
    try:
        yield
    finally:
        writer.shared_memory = before


def _fill(writer: Any, pictures: Pictures, check: Callable[[], None]) -> None:
    from align_dist.data.ffcv_compat import MemoryAllocator

    # Forked: the pictures' records, the locks and the shared memory are simply there.
    context = multiprocessing.get_context("fork")
    work, allocations, failures = context.Queue(), context.Queue(), context.SimpleQueue()
    # Else an interrupted run waits at its exit for workers, now dead, to take the rest of the work.
    work.cancel_join_thread()
    items = [(index, index) for index in range(len(pictures))]
    for start in range(0, len(items), _CHUNK):
        work.put(items[start : start + _CHUNK])
    for _ in range(writer.num_workers):
        work.put(None)
    done = context.Value(ctypes.c_uint64, 0)
    allocator = MemoryAllocator(writer.fname, writer.data_region_start, writer.page_size)
    arguments = (
        work, writer.metadata_sm, writer.metadata_type, writer.fields, allocator, done, allocations, pictures,
    )  # fmt: skip
    processes = [context.Process(target=_work, args=(failures, arguments)) for _ in range(writer.num_workers)]
    try:
        for process in processes:
            process.start()
        table = _collect(processes, allocations, failures, done, len(pictures), check)
        _check_length(Path(writer.fname), allocator)
        writer.finalize(table)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _work(failures: Any, arguments: tuple[Any, ...]) -> None:
    """One worker: FFCV's, with its failure told to the parent."""
    from align_dist.data.ffcv_compat import worker_job_indexed_dataset

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    try:
        worker_job_indexed_dataset(*arguments)
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        message = str(error.strerror) if isinstance(error, OSError) else f"{error}"
        failures.put((number, isinstance(error, UserError), message or type(error).__name__))
        raise SystemExit(1) from None


def _collect(
    processes: Sequence[Any], allocations: Any, failures: Any, done: Any, total: int, check: Callable[[], None]
) -> list[Any]:
    """Waits for every worker's allocations; raises as soon as one worker has failed, or Ctrl-C came."""
    table: list[Any] = []
    finished = 0
    with progress("writing", total) as report:
        while finished < len(processes):
            check()
            try:
                table.extend(allocations.get(timeout=0.1))
                finished += 1
            except queue.Empty:
                for process in processes:
                    if process.exitcode not in (None, 0):
                        _raise_failure(process.exitcode, failures)
            report(done.value)
    return table


def _raise_failure(exit_code: int, failures: Any) -> None:
    if failures.empty():
        killed = exit_code == -signal.SIGKILL
        cause = "killed, perhaps for want of memory" if killed else f"exit code {exit_code}"
        raise DataError(f"a writer process died ({cause}); run again with fewer workers or more memory")
    number, is_users, message = failures.get()
    if number is not None:
        raise OSError(number, message)
    if is_users:
        raise DataError(message)
    raise RuntimeError(f"a writer process failed: {message}")


def _check_length(path: Path, allocator: Any) -> None:
    """FFCV ignores short writes, which is how a filling disk begins."""
    pages = allocator.next_page_written.value
    if pages and path.stat().st_size != allocator.offset + pages * allocator.page_size:
        raise StorageError(f"{path}: the disk took only a part of it; free space or choose another folder")
