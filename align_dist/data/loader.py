"""Batches from a `.beton`: a loader is a function from draws to images, compiled once a process.

Training, validation and evaluation use the same loader with different draws, so FFCV compiles once
(6 to 9 s) however many passes a run makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from align_dist.data.decoder import Augmentation, DrawnImageDecoder
from align_dist.data.draws import Draws, sample_of
from align_dist.data.ffcv_compat import EpochIterator, FFCVLoader, OrderOption, ToTensor
from align_dist.errors import DataError
from align_dist.machine import available_cores
from align_dist.networks.backbones import IMAGENET, Statistics

IMAGENET_MEAN, IMAGENET_DEVIATION = IMAGENET


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch, on the device.

    images: (B, 3, H, W) float32, normalised; 0 is the mean colour. labels: (B,) int64. domains: (B,) int64.
    samples: (B,) int64 ids. draws: the draws it came from. masks: (B, H, W) float32 in [0, 1], or None
    where the benchmark has no true masks or they were not asked for.
    """

    images: torch.Tensor
    labels: torch.Tensor
    domains: torch.Tensor
    samples: torch.Tensor
    draws: Draws
    masks: torch.Tensor | None = None

    def parts(self, count: int) -> list[Batch]:
        """The batch in `count` pieces of equal size, in order. Raises ValueError where that cannot be."""
        if count == 1:
            return [self]
        size, rest = divmod(len(self.images), count)
        if rest:
            raise ValueError(f"a batch of {len(self.images)} has no {count} equal parts")
        return [self._piece(slice(i * size, (i + 1) * size)) for i in range(count)]

    def _piece(self, rows: slice) -> Batch:
        return Batch(
            images=self.images[rows],
            labels=self.labels[rows],
            domains=self.domains[rows],
            samples=self.samples[rows],
            draws=self.draws[rows],
            masks=None if self.masks is None else self.masks[rows],
        )


class _DrawIterator(EpochIterator):  # type: ignore[misc]
    """FFCV's iterator, except that an error in its thread ends the pass instead of hanging it."""

    failure: BaseException | None = None

    def run(self) -> None:
        try:
            super().run()
        except BaseException as error:
            self.failure = error
            self.output_queue.put(None)

    def leave(self) -> None:
        """Ends the thread, also when it waits for room in its queue to say that it is done."""
        self.close()
        while self.is_alive():
            with suppress(Empty):
                self.output_queue.get(timeout=0.05)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except StopIteration:
            if self.failure is None:
                raise
            name = self.loader.reader.file_name
            raise DataError(f"{name}: reading failed ({self.failure}); try `align-dist data verify`") from None


class Loader:
    """Reads one `.beton`. `batches(orders)` yields one `Batch` for each array of draws.

    side: images become (side, side). seed: of the augmentation. workers: decoding threads (0: one a core).
    """

    def __init__(
        self,
        beton: Path,
        side: int,
        seed: int,
        augmentation: Augmentation,
        *,
        masks: bool = False,
        workers: int = 0,
        device: torch.device | None = None,
        normalisation: Statistics = IMAGENET,
    ) -> None:
        self.device = device or torch.device("cpu")
        mean, deviation = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in normalisation)
        self._scale, self._offset = 1 / (255 * deviation), mean / deviation
        self._with_masks = masks
        self._loader = _make_ffcv_loader(beton, side, seed, augmentation, masks, workers or available_cores())
        metadata = self._loader.reader.metadata
        self.labels = _column(self._loader.reader, metadata, "label")
        self.domains = _column(self._loader.reader, metadata, "domain")
        self._forbidden: NDArray[np.bool_] = np.zeros(len(self.labels), np.bool_)

    def allow_only(self, samples: NDArray[np.int64]) -> None:
        """From here on any other sample is a PermissionError, before anything of it is read."""
        self._forbidden = ~np.isin(np.arange(len(self.labels)), samples)

    def batches(self, orders: Callable[[int], Draws], count: int) -> Iterator[Batch]:
        """`count` batches; batch i holds the draws `orders(i)`. All but the last have the same size.

        The FFCV iterator closes with the generator, also when it is left early.
        """
        if count == 0:
            return
        draws = [orders(i) for i in range(count)]
        if any(len(drawn) != len(draws[0]) for drawn in draws[:-1]) or len(draws[-1]) > len(draws[0]):
            raise ValueError("all batches but the last must have the same size")
        if any(self._forbidden[sample_of(drawn)].any() for drawn in draws):
            raise PermissionError("a sample was asked for that this loader must not show (see allow_only)")
        self._loader.batch_size = len(draws[0])
        threads = torch.get_num_threads()
        iterator = _DrawIterator(self._loader, np.concatenate(draws))
        try:
            for drawn, arrays in zip(draws, iterator, strict=True):
                torch.set_num_threads(threads)  # FFCV's thread sets its own number for everybody
                yield self._to_batch(drawn, arrays)
        finally:
            iterator.leave()

    def all_of(self, draws: Draws, batch_size: int) -> Iterator[Batch]:
        """Every draw once, in order, the last batch as short as it is."""
        count = -(-len(draws) // batch_size)
        return self.batches(lambda i: draws[i * batch_size : (i + 1) * batch_size], count)

    def _to_batch(self, draws: Draws, arrays: tuple[torch.Tensor, ...]) -> Batch:
        samples = sample_of(draws)
        # FFCV reuses its buffers: `clone` (or the copy to another device) is what makes a batch ours.
        pixels = arrays[0].to(self.device, copy=True)
        images = pixels.permute(0, 3, 1, 2).float() * self._scale - self._offset
        masks = arrays[1][..., 0].to(self.device, copy=True).float() / 255 if self._with_masks else None
        return Batch(
            images=images,
            labels=self._tensor(self.labels[samples]),
            domains=self._tensor(self.domains[samples]),
            samples=self._tensor(samples),
            draws=draws,
            masks=masks,
        )

    def _tensor(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _column(reader: Any, metadata: Any, name: str) -> NDArray[np.int64]:
    """An integer field of every sample, straight from the beton's header."""
    index = list(reader.handlers).index(name)
    return np.ascontiguousarray(metadata[f"f{index}"]).view("<i8").reshape(-1).astype(np.int64)


def _make_ffcv_loader(beton: Path, side: int, seed: int, augmentation: Augmentation, masks: bool, workers: int) -> Any:
    """An FFCV loader of images (and masks) whose order is given batch by batch."""

    def pipeline(colours: bool) -> list[Any]:
        return [DrawnImageDecoder(side, augmentation, seed, colours), ToTensor()]

    pipelines: dict[str, Any] = {"image": pipeline(colours=True), "label": None, "domain": None, "sample": None}
    pipelines["mask"] = pipeline(colours=False) if masks else None
    threads, most = torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    settings = {"num_workers": min(workers, most), "os_cache": True, "order": OrderOption.SEQUENTIAL}
    try:
        return FFCVLoader(str(beton), 1, pipelines=pipelines, **settings)
    except (AssertionError, UnicodeDecodeError, ValueError, IndexError, KeyError, MemoryError) as error:
        remedy = "make it again with `align-dist data prepare CONFIG --force`"
        raise DataError(f"{beton}: not a readable beton ({' '.join(str(error).split())}); {remedy}") from None
    finally:
        torch.set_num_threads(threads)
