"""The loader of batches from a `.beton`, a function from sample keys to images, opened once per process.

Training, validation and evaluation use the same loader with different sample keys.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from align_dist.config import AugmentationConfig
from align_dist.data.batch import Batch
from align_dist.data.decoder import DrawnImageDecoder
from align_dist.data.ffcv_compat import EpochIterator, ToTensor, make_ffcv_loader
from align_dist.data.sample_keys import SampleKeys, sample_ids
from align_dist.data.share import Share
from align_dist.data.transfer import make_normaliser, make_sender
from align_dist.data.views import ViewGeometry
from align_dist.errors import DataError
from align_dist.machine import available_cores, keep_freed_memory
from align_dist.normalisation import IMAGENET, InputNormalisation


@dataclass(frozen=True)
class _ShareImages:
    """The images to read for a share. sample_keys: sample keys of the share, then those of further second images.

    second: position of each image's second image in `sample_keys`, or None.
    """

    share: Share
    sample_keys: SampleKeys
    second: NDArray[np.int64] | None


def _images_of(share: Share) -> _ShareImages:
    if share.second is None:
        return _ShareImages(share, np.ascontiguousarray(share.sample_keys), None)
    sample_keys = np.concatenate([share.sample_keys, np.setdiff1d(share.second, share.sample_keys)])
    order = np.argsort(sample_keys, kind="stable")
    return _ShareImages(share, sample_keys, order[np.searchsorted(sample_keys, share.second, sorter=order)])


class _ShareIterator(EpochIterator):  # type: ignore[misc]
    """FFCV's iterator over shares, which are made in the iterator's thread a few batches ahead.

    An error in the thread ends the pass instead of blocking it.
    """

    def __init__(self, loader: Any, count: int, share_of: Callable[[int], Share], allowed: NDArray[np.bool_]) -> None:
        self.share_of, self.allowed = share_of, allowed
        self.share_images: Queue[_ShareImages] = Queue()
        self.failure: BaseException | None = None
        # FFCV slices its order into batches at once, which costs nothing for a range.
        super().__init__(loader, range(count * loader.batch_size))

    def run(self) -> None:
        try:
            super().run()
        except BaseException as error:
            self.failure = error
            self.output_queue.put(None)

    def run_pipeline(self, b_ix: int, batch_indices: Any, batch_slot: int, cuda_event: Any) -> Any:
        images = _images_of(self.share_of(b_ix))
        if not self.allowed[sample_ids(images.sample_keys)].all():
            raise PermissionError("a sample is not among the allowed samples of this loader (see allow_only)")
        if len(images.sample_keys) > self.loader.batch_size:
            raise ValueError(f"batch {b_ix} reads {len(images.sample_keys)} images, the first {self.loader.batch_size}")
        self.share_images.put(images)
        try:
            return super().run_pipeline(b_ix, images.sample_keys, batch_slot, cuda_event)
        except Exception as error:
            name = self.loader.reader.file_name
            raise DataError(f"{name}: reading failed ({error}); try `align-dist data verify`") from error

    def leave(self) -> None:
        """End the thread, even while the thread waits for room in its queue."""
        self.close()
        while self.is_alive():
            with suppress(Empty):
                self.output_queue.get(timeout=0.05)

    def __next__(self) -> tuple[_ShareImages, tuple[torch.Tensor, ...]]:
        try:
            arrays = super().__next__()
        except StopIteration:
            if self.failure is None:
                raise
            raise self.failure from None
        return self.share_images.get(), arrays


class Loader:
    """A loader of one `.beton`. `shares` yields a `Batch` per share, `batches` per array of sample keys.

    side: height and width of the images in pixels. seed: of the augmentation. masks_in_training: whether to read masks
    of augmented images too; else these are zeros. workers: decoding threads (0: one per core).
    """

    def __init__(
        self,
        beton: Path,
        side: int,
        seed: int,
        augmentation: AugmentationConfig,
        *,
        masks: bool = False,
        masks_in_training: bool = True,
        workers: int = 0,
        device: torch.device | None = None,
        normalisation: InputNormalisation = IMAGENET,
    ) -> None:
        self.device = device or torch.device("cpu")
        self._send = make_sender(self.device)
        self._normalise = make_normaliser(self.device, *(torch.tensor(values) for values in normalisation))
        self._with_masks = masks
        workers = min(workers or available_cores(), available_cores())
        decoder = partial(DrawnImageDecoder, side, augmentation, seed, ThreadPoolExecutor(workers), workers)
        mask = decoder(mask=True, augmented=masks_in_training) if masks else None
        self._loader = _open(beton, decoder(), mask)
        metadata = self._loader.reader.metadata
        self.labels = _column(self._loader.reader, metadata, "label")
        self.domains = _column(self._loader.reader, metadata, "domain")
        self.views = ViewGeometry(seed, augmentation, *_sides(self._loader.reader, metadata))
        grouped = "group" in self._loader.reader.handlers
        self.groups = _column(self._loader.reader, metadata, "group") if grouped else None
        self._allowed: NDArray[np.bool_] = np.ones(len(self.labels), np.bool_)

    def allow_only(self, samples: NDArray[np.int64]) -> None:
        """Refuse every other sample from now on with a PermissionError, before reading."""
        self._allowed = np.isin(np.arange(len(self.labels)), samples)

    def batches(self, orders: Callable[[int], SampleKeys], count: int) -> Iterator[Batch]:
        """Yield `count` batches; batch i holds the sample keys `orders(i)`. See `shares`."""
        return self.shares(lambda i: Share(orders(i)), count)

    def shares(self, share_of: Callable[[int], Share], count: int) -> Generator[Batch]:
        """Yield `count` batches; batch i holds the share `share_of(i)`. No batch may be larger than the first.

        Shares are made in FFCV's thread, a few batches ahead. Closing the generator closes the FFCV iterator. Raises
        PermissionError for a sample that is not allowed, ValueError for a larger batch.
        """
        if count == 0:
            return
        first = share_of(0)
        self._loader.batch_size = len(first.sample_keys) * (1 if first.second is None else 2)
        iterator = _ShareIterator(self._loader, count, lambda i: share_of(i) if i else first, self._allowed)
        try:
            for images, arrays in iterator:
                yield self._to_batch(images, arrays)
        finally:
            iterator.leave()

    def batches_of(self, sample_keys: SampleKeys, batch_size: int) -> Iterator[Batch]:
        """Yield every sample key once, in order; the last batch may be shorter."""
        count = -(-len(sample_keys) // batch_size)
        return self.batches(lambda i: sample_keys[i * batch_size : (i + 1) * batch_size], count)

    def _to_batch(self, images: _ShareImages, arrays: tuple[torch.Tensor, ...]) -> Batch:
        share, samples = images.share, sample_ids(images.share.sample_keys)
        host = {
            "pixels": arrays[0],
            "labels": torch.from_numpy(self.labels[samples]),
            "domains": torch.from_numpy(self.domains[samples]),
            "samples": torch.from_numpy(samples),
        }
        if self.groups is not None:
            host["groups"] = torch.from_numpy(self.groups[samples])
        if self._with_masks:
            host["masks"] = arrays[1][: len(samples)]
        if images.second is not None:
            host["second"] = torch.from_numpy(images.second)
        sent = self._send({**host, **{f"value/{k}": v for k, v in share.values.items()}})
        # FFCV reuses its buffers; the conversion to float copies images and masks.
        pictures = self._normalise(sent["pixels"])
        return Batch(
            images=pictures[: len(samples)],
            labels=sent["labels"],
            domains=sent["domains"],
            samples=sent["samples"],
            sample_keys=share.sample_keys,
            masks=sent["masks"].float() / 255 if self._with_masks else None,
            second=None if images.second is None else pictures[sent["second"]],
            values={name: sent[f"value/{name}"] for name in share.values},
            ranks=share.ranks,
            groups=sent.get("groups"),
        )


def _column(reader: Any, metadata: Any, name: str) -> NDArray[np.int64]:
    """An integer field of every sample, read from the beton's header: (N,)."""
    index = list(reader.handlers).index(name)
    return np.ascontiguousarray(metadata[f"f{index}"]).view("<i8").reshape(-1).astype(np.int64)


def _sides(reader: Any, metadata: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Heights and widths of all stored images, (N,) each."""
    field = metadata[f"f{list(reader.handlers).index('image')}"]
    return field["height"].astype(np.int64), field["width"].astype(np.int64)


def _open(beton: Path, image: DrawnImageDecoder, mask: DrawnImageDecoder | None) -> Any:
    """An FFCV loader of images (and masks), whose order follows batch by batch."""
    keep_freed_memory()
    pipelines: dict[str, Any] = {"image": [image, ToTensor()]}
    pipelines |= dict.fromkeys(("label", "domain", "sample", "group"))  # read from the header
    pipelines["mask"] = mask and [mask, ToTensor()]
    try:
        return make_ffcv_loader(str(beton), pipelines=pipelines, os_cache=True)
    except (AssertionError, UnicodeDecodeError, ValueError, IndexError, KeyError, MemoryError) as error:
        remedy = "make it again with `align-dist data prepare CONFIG --force`"
        raise DataError(f"{beton}: not a readable beton ({' '.join(str(error).split())}); {remedy}") from None
