"""A run on TensorBoard's HPARAMS page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align_dist.config import RunConfig
from align_dist.schema.values import leaves, option_metadata


def write_hyperparameters(
    events: Path,
    config: RunConfig,
    metrics: Mapping[str, float],
    step: int,
    writer_name: str,
    others: Mapping[str, Any],
) -> None:
    """Write the options that a search varies, `others` and metrics of a step into a folder of their own among a run's
    events.


    writer_name: whose metrics they are, a part of the file's name. No columns are written: of several runs that write,
    TensorBoard shows those of any one. Without, it shows all settings, and all scalars that lie beside them.
    """
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import SummaryWriter

    options = {
        f"{config.method}.{name}": getattr(config.options, name)
        for name, field in leaves(type(config.options))
        if option_metadata(field, "search")
    }
    settings = {"method": config.method, "seed": config.seed, "warmup": config.training.warmup, **options, **others}
    _columns, *session = hparams(settings, dict(metrics))
    writer = SummaryWriter(str(events / "hyperparameters"), filename_suffix=f".{writer_name}")
    for summary in session:
        writer._get_file_writer().add_summary(summary)
    for name, value in metrics.items():
        writer.add_scalar(name, value, step)
    writer.close()
