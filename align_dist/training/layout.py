"""The layout of TensorBoard's custom scalars: losses by network, mask, validation, speed."""

from __future__ import annotations

from collections.abc import Sequence

Charts = dict[str, list[str | list[str]]]


def scalar_layout(networks: Sequence[str]) -> dict[str, Charts]:
    """Section -> chart -> tags, as `SummaryWriter.add_custom_scalars` takes them. networks: that learn, by name.

    Tags are regular expressions: https://www.tensorflow.org/tensorboard. A chart whose tags a run lacks stays empty.
    """
    return {
        "losses": {name: _lines(rf"^{name}/(?!weight/|gradient_norm)[^/]+$") for name in networks},
        "gradient norms": {name: _lines(rf"^{name}/gradient_norm(/.*)?$") for name in networks},
        "mask": {"area and binariness": _lines("^mask/")},
        "validation": {
            "accuracy": _lines("^validation/(worst_group_|adjusted_)?accuracy$", "^oracle/accuracy$"),
            "accuracy of each group": _lines("^validation/accuracy_of_group/"),
            "collapse of maps": _lines("^validation/(commonest_cell|map_following|map_likeness|stays_(mirror|shift))$"),
            "faithfulness": _lines("^validation/(insertion_auc|sufficiency|comprehensiveness)$"),
        },
        "speed": {
            "images a second": _lines("^speed/images_per_second$"),
            "share of time waiting for data": _lines("^speed/waiting_for_data$"),
        },
    }


def _lines(*tags: str) -> list[str | list[str]]:
    return ["Multiline", [*tags]]
