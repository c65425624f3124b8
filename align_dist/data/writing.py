"""Writing images with the parts of FFCV's DatasetWriter, so that a dead worker raises an error.

DatasetWriter waits for a counter that a dead worker never advances, ignores short writes, and cannot be interrupted
cleanly. Here header, worker and allocation table are called one by one, while the main process watches the workers and
checks the file's length.
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
from align_dist.data.scan import ImageScan
from align_dist.errors import DataError, StorageError, UserError
from align_dist.files import locked
from align_dist.machine import check_semaphores

_CHUNK = 50
_SMALLEST_PAGE = 1 << 21


class _Forked:
    """Memory shared with forked workers. FFCV's shared memory lies in /dev/shm, which is small in containers, and a
    write beyond its end kills the writer.
    """

    def __init__(self, create: bool, size: int) -> None:
        self.buf = mmap.mmap(-1, size)


class SampleDataset:
    """An indexable dataset of (image, *columns[, mask]) tuples.

    columns: integers by field, one per sample. reading: of masks, None without masks.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        facts: Sequence[ImageScan],
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
            content = sample.path.read_bytes()
            mask = sample.mask.read_bytes() if sample.mask is not None and self.reading else None
        except OSError as error:
            raise DataError(f"{sample.path}: {error.strerror} while the beton was being written; run again") from None
        if content_hash(content) != self.facts[index].digest:
            raise DataError(f"{sample.path}: changed while the beton was being written; run again")
        record = (decode_image(content, self.max_side), *(column[index] for column in self.columns.values()))
        if mask is None or self.reading is None:
            return record
        return (*record, decode_mask(mask, self.max_side, self.reading))

    def largest_bytes(self) -> int:
        """Raw bytes of the largest sample, including its mask."""
        return max(fact.pixels for fact in self.facts) * (6 if self.has_masks else 3)


@contextmanager
def locked_partial(destination: Path) -> Iterator[Path]:
    """Lock `<name>.partial` against a second writer, and remove the file unless it was renamed."""
    partial = destination.with_name(f"{destination.name}.partial")
    with locked(partial, wait=False) as has_lock:
        if not has_lock:
            raise DataError(f"{destination}: another process is writing this beton; wait until it finishes")
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C until the yielded function is called, or else to the end of the block.

    Elsewhere KeyboardInterrupt may be raised in a callback of a weak reference (numba has thousands) or in Python's
    hooks around a fork, which swallow the exception. Blocking the signal does not help, because other threads get it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    signals: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))

    def check() -> None:
        # The handler is called directly, because a signal raised again would be handled at some later instruction.
        if signals and callable(previous):
            previous(signals.pop(), None)

    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)
        check()


def write_samples(pictures: SampleDataset, path: Path, image_field: ImageField, workers: int) -> None:
    """Write all images to `path`, in order.

    Raises DataError or StorageError if a worker fails, MachineError where processes cannot share locks.
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
    # OpenCV's threads do not survive a fork; with one thread here the workers need no threads.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with deferred_interrupts() as check:
            with _shared_memory_from(_Forked):
                writer.prepare()
            _fill(writer, pictures, check)
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def _shared_memory_from(kind: type) -> Iterator[None]:
    """Make FFCV's writer allocate shared memory with another class."""
    from ffcv import writer

    shared_memory = writer.shared_memory
    writer.shared_memory = SimpleNamespace(SharedMemory=kind)
    try:
        yield
    finally:
        writer.shared_memory = shared_memory


def _fill(writer: Any, pictures: SampleDataset, check: Callable[[], None]) -> None:
    from align_dist.data.ffcv_compat import MemoryAllocator

    # Forked, so that the workers inherit the samples, the locks and the shared memory.
    context = multiprocessing.get_context("fork")
    work, allocations, failures = context.Queue(), context.Queue(), context.SimpleQueue()
    # Otherwise an interrupted run would wait at exit for dead workers to take the remaining work.
    work.cancel_join_thread()
    items = [(index, index) for index in range(len(pictures))]
    for start in range(0, len(items), _CHUNK):
        work.put(items[start : start + _CHUNK])
    for _ in range(writer.num_workers):
        work.put(None)
    counter = context.Value(ctypes.c_uint64, 0)
    allocator = MemoryAllocator(writer.fname, writer.data_region_start, writer.page_size)
    arguments = (
        work, writer.metadata_sm, writer.metadata_type, writer.fields, allocator, counter, allocations, pictures,
    )  # fmt: skip
    processes = [context.Process(target=_work, args=(failures, arguments)) for _ in range(writer.num_workers)]
    try:
        for process in processes:
            process.start()
        table = _collect(processes, allocations, failures, counter, len(pictures), check)
        _check_length(Path(writer.fname), allocator)
        writer.finalize(table)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _work(failures: Any, arguments: tuple[Any, ...]) -> None:
    """Run FFCV's worker and report a failure to the parent."""
    from align_dist.data.ffcv_compat import worker_job_indexed_dataset

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    try:
        worker_job_indexed_dataset(*arguments)
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        message = str(error.strerror) if isinstance(error, OSError) else f"{error}"
        failures.put((number, isinstance(error, UserError), message or type(error).__name__))
        raise SystemExit(1) from None


def _collect(
    processes: Sequence[Any], allocations: Any, failures: Any, counter: Any, total: int, check: Callable[[], None]
) -> list[Any]:
    """Collect every worker's allocations. Raises as soon as a worker fails or Ctrl-C arrives."""
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
            report(counter.value)
    return table


def _raise_failure(exit_code: int, failures: Any) -> None:
    if failures.empty():
        is_killed = exit_code == -signal.SIGKILL
        cause = "killed, perhaps out of memory" if is_killed else f"exit code {exit_code}"
        raise DataError(f"a writer process died ({cause}); run again with fewer workers or more memory")
    number, is_users, message = failures.get()
    if number is not None:
        raise OSError(number, message)
    if is_users:
        raise DataError(message)
    raise RuntimeError(f"a writer process failed: {message}")


def _check_length(path: Path, allocator: Any) -> None:
    """Raise StorageError after a short write on a full disk, which FFCV ignores."""
    pages = allocator.next_page_written.value
    if pages and path.stat().st_size != allocator.offset + pages * allocator.page_size:
        raise StorageError(f"{path}: only partly written; free space or choose another folder")
