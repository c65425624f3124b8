"""All of FFCV that is used here, imported without compiling anything.

At import FFCV fills a numba typed Dict with two entries that only plain Python ever reads. numba compiles for 3 s for
that, in every process that trains or evaluates; a plain dict serves as well.
"""

# ruff: noqa: F401, E402
from __future__ import annotations

import numba.typed
import torch  # FFCV's library needs torch's loaded first

import align_dist.networks.torchvision_compat  # FFCV imports torchvision

_typed_dict = numba.typed.Dict
numba.typed.Dict = dict
try:
    from ffcv.fields.rgb_image import IMAGE_MODES, RGBImageField, SimpleRGBImageDecoder
finally:
    numba.typed.Dict = _typed_dict
from ffcv.fields import IntField
from ffcv.libffcv import imdecode, resize_crop
from ffcv.loader import Loader as FFCVLoader
from ffcv.loader import OrderOption
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.memory_allocator import MemoryAllocator
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter, worker_job_indexed_dataset

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
    "SimpleRGBImageDecoder",
    "State",
    "ToTensor",
    "imdecode",
    "resize_crop",
    "worker_job_indexed_dataset",
]
