"""The parts of FFCV that this package uses, imported without compilation and without changing torch's threads.

At import FFCV fills a numba typed Dict with two entries that only plain Python reads. numba compiles 3 s for this Dict
in every process; a plain dict serves as well.

FFCV compiles decoders and its reader anew in every process, and its reader marks numba's shared type of a byte array
as read-only, so that functions compiled earlier for such arrays raise KeyError. Loaders from `make_ffcv_loader` have
no compiled reader and run in plain Python; `rendering` compiles the slow parts.

FFCV sets torch's number of threads: 1 at import, the number of workers with each loader and each pass. Training would
then run on one core. Here torch's threads stay unchanged, and `decoder` has its own thread pool.
"""

# ruff: noqa: E402
from __future__ import annotations

import ctypes
from typing import Any

import numba.typed
import torch  # FFCV's library needs torch's library loaded first

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
    """Replace FFCV's function, which also sets torch's threads."""
    compiler.num_threads = workers


Compiler.set_num_threads = classmethod(_keep_threads)
OSCacheManager.compile_reader = lambda _manager: None
IMDECODE_ADDRESS = ctypes.cast(ctypes_imdecode, ctypes.c_void_p).value


def make_ffcv_loader(beton: str, **settings: Any) -> Any:
    """FFCV's loader in sequential order, without compilation. The caller sets the batch size. settings: of FFCV."""
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
