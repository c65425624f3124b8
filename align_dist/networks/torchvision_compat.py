"""Makes `import torchvision` work where its compiled operators cannot load.

The registry's torchvision wheel beside a CPU-only torch fails at import with "operator
torchvision::nms does not exist": its C++ library cannot be loaded, yet two fake kernels are registered
for operators that therefore are not declared. Models, weights and transforms need none of them.
Importing align_dist is enough, or torch where align_dist is installed (setup.py: `torch.backends`): as soon as
torchvision tries to load its library, whoever imports it, those that are really missing are declared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class BeforeTorchvision:
    """A finder that finds nothing: asked for what loads torchvision's library, it declares what that will not bring."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # The second alone where torchvision's import has begun already, the first alone where one has failed before.
        if name in ("torchvision", "torchvision.extension"):
            declare_missing_operators()
        return None


def watch_for_torchvision() -> None:
    """From here on an import of torchvision works in this process, one that has just begun included."""
    if BeforeTorchvision not in sys.meta_path:
        sys.meta_path.insert(0, BeforeTorchvision)


def declare_missing_operators() -> None:
    """Declares the operators that torchvision registers fakes for, when its library could not bring them."""
    import torch

    if _compiled_operators_load():
        return
    for name, schema in _SCHEMAS.items():
        if not torch._C._jit_get_schemas_for_operator(name):
            torch.library.define(name, schema)


def _compiled_operators_load() -> bool:
    """Whether torchvision's own C++ library loads here, tried the way torchvision does it."""
    from pathlib import Path

    import torch

    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return True
