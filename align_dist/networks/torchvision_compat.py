"""Makes `import torchvision` work where its compiled operators cannot load.

The registry's torchvision wheel beside a CPU-only torch fails at import with "operator
torchvision::nms does not exist": its C++ library cannot be loaded, yet two fake kernels are registered
for operators that therefore are not declared. Models, weights and transforms need none of them.
Importing this module before the first `import torchvision` declares those that are really missing.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _compiled_operators_load() -> bool:
    """Whether torchvision's own C++ library loads here, tried the way torchvision does it."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return True


def declare_missing_operators() -> None:
    """Declares the operators that torchvision registers fakes for, when its library could not bring them."""
    if _compiled_operators_load():
        return
    for name, schema in _SCHEMAS.items():
        if not torch._C._jit_get_schemas_for_operator(name):
            torch.library.define(name, schema)


declare_missing_operators()
