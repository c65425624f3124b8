"""A fix for `import torchvision` where torchvision's compiled operators cannot load.

torchvision's registry wheel beside a CPU-only torch fails at import with "operator torchvision::nms does not exist":
the C++ library cannot be loaded, but fake kernels are registered for two operators that are not declared. Models,
weights and transforms need neither operator. Importing align_dist is enough, or torch where align_dist is installed
(setup.py: `torch.backends`): the missing operators are declared when torchvision tries to load its library.
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
    """An import finder that finds no module, but declares the missing operators before torchvision is imported."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Only the second name where torchvision's import has already begun, only the first where an import has failed.
        if name in ("torchvision", "torchvision.extension"):
            declare_missing_operators()
        return None


def watch_for_torchvision() -> None:
    """Make later imports of torchvision work in this process, including an import in progress."""
    if BeforeTorchvision not in sys.meta_path:
        sys.meta_path.insert(0, BeforeTorchvision)


def declare_missing_operators() -> None:
    """Declare the operators for which torchvision registers fakes, where its library cannot be loaded."""
    import torch

    if _compiled_operators_load():
        return
    for name, schema in _SCHEMAS.items():
        if not torch._C._jit_get_schemas_for_operator(name):
            torch.library.define(name, schema)


def _compiled_operators_load() -> bool:
    """Return whether torchvision's C++ library can be loaded, tried as torchvision does."""
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
