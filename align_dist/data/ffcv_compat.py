"""All of FFCV that is used here, imported without compiling anything, and torch's threads left alone.

At import FFCV fills a numba typed Dict with two entries that only plain Python ever reads. numba compiles for 3 s for
that, in every process that trains or evaluates; a plain dict serves as well.

FFCV marks numba's own type of a row of bytes as read-only, in place. Whatever was compiled for such a row before is
then a KeyError: at exit, in numba's finalisers, or in the next function that is compiled. Its reader has its own type
here.

FFCV gives torch, too, its number of threads: 1 at import, a loader's workers with each loader and each pass. Training
then runs on one core. It keeps to numba's here.
"""

# ruff: noqa: F401, E402
from __future__ import annotations

from typing import Any

import numba
import numba.typed
import numpy as np
import torch  # FFCV's library needs torch's loaded first

import align_dist.networks.torchvision_compat  # FFCV imports torchvision

_typed_dict, _threads = numba.typed.Dict, torch.get_num_threads()
numba.typed.Dict = dict
try:
    from ffcv.fields.rgb_image import IMAGE_MODES, RGBImageField, SimpleRGBImageDecoder
finally:
    numba.typed.Dict = _typed_dict
    torch.set_num_threads(_threads)
from ffcv.fields import IntField
from ffcv.libffcv import imdecode
from ffcv.loader import Loader as FFCVLoader
from ffcv.loader import OrderOption
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.memory_allocator import MemoryAllocator
from ffcv.memory_managers.os_cache import OSCacheManager
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State
from ffcv.reader import Reader
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter, worker_job_indexed_dataset


def _set_numbas_threads(compiler: Any, workers: int) -> None:
    """What FFCV's own does, but for torch's. workers: ≥ 1."""
    compiler.num_threads = workers
    numba.set_num_threads(workers)


Compiler.set_num_threads = classmethod(_set_numbas_threads)

_READ_ONLY = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_PLACES = numba.types.Array(numba.uint64, 1, "C")
_STORAGE = numba.types.Tuple([_READ_ONLY, _PLACES, _PLACES])  # type: ignore[no-untyped-call]


def _compile_reader(_manager: Any) -> Any:
    """What FFCV's own does: the bytes of a sample, by their place in the file's (bytes, places, sizes)."""

    def read(address: Any, storage: Any) -> Any:
        size = storage[2][np.searchsorted(storage[1], address)]
        return storage[0][address : address + size]

    return Compiler.compile(read, _READ_ONLY(numba.uint64, _STORAGE))


OSCacheManager.state_type = property(lambda _manager: _STORAGE)
OSCacheManager.compile_reader = _compile_reader

__all__ = [
    "IMAGE_MODES",
    "AllocationQuery",
    "Compiler",
    "DatasetWriter",
    "EpochIterator",
    "FFCVLoader",
    "IntField",
    "MemoryAllocator",
    "OrderOption",
    "RGBImageField",
    "Reader",
    "SimpleRGBImageDecoder",
    "State",
    "ToTensor",
    "imdecode",
    "worker_job_indexed_dataset",
]
