"""All of FFCV that is used here, imported without compiling anything, and torch's threads left alone.

At import FFCV fills a numba typed Dict with two entries that only plain Python ever reads. numba compiles for 3 s for
that, in every process that trains or evaluates; a plain dict serves as well.

FFCV compiles what it makes of decoders and of its reader, in every process anew, and for its reader marks numba's own
type of a row of bytes as read-only: whatever was compiled for such a row before is then a KeyError. Loaders of
`make_ffcv_loader` have no reader and are of Python alone; what is slow in Python, `rendering` has compiled.

FFCV gives torch its number of threads: 1 at import, a loader's workers with each loader and each pass. Training then
runs on one core. It gives nobody any here: `decoder` has its own.
"""

# ruff: noqa: F401, E402
from __future__ import annotations

import ctypes
from typing import Any

import numba.typed
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
from ffcv.libffcv import ctypes_imdecode
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


def _keep_threads(compiler: Any, workers: int) -> None:
    """In place of FFCV's own."""
    compiler.num_threads = workers


Compiler.set_num_threads = classmethod(_keep_threads)
OSCacheManager.compile_reader = lambda _manager: None
IMDECODE_ADDRESS = ctypes.cast(ctypes_imdecode, ctypes.c_void_p).value


def make_ffcv_loader(beton: str, **settings: Any) -> Any:
    """FFCV's loader of samples in order, one a batch at first, with nothing compiled. settings: its own."""
    Compiler.set_enabled(False)
    try:
        return FFCVLoader(beton, 1, num_workers=1, order=OrderOption.SEQUENTIAL, **settings)
    finally:
        Compiler.set_enabled(True)


__all__ = [
    "IMAGE_MODES",
    "IMDECODE_ADDRESS",
    "AllocationQuery",
    "DatasetWriter",
    "EpochIterator",
    "IntField",
    "MemoryAllocator",
    "RGBImageField",
    "Reader",
    "SimpleRGBImageDecoder",
    "State",
    "ToTensor",
    "make_ffcv_loader",
    "worker_job_indexed_dataset",
]
