"""Runs of a search beside a run that was measured: TensorBoard's own reader finds every column."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from torch.utils.tensorboard.writer import SummaryWriter

from align_dist.config import RunConfig
from align_dist.training.hyperparameters import write_hyperparameters


def test_all_settings_and_no_curves_are_columns(squares: RunConfig, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("second", 1)):
        events, config = tmp_path / name / "events", squares.model_copy(update={"seed": seed})
        with SummaryWriter(str(events)) as curves:
            curves.add_scalar("classifier/classification", 1.0, 0)
        searched = {"align.mask_sampling": "relaxed"}
        write_hyperparameters(events, config, {"search/objective": 0.5 + seed}, 8, "search-8", searched)
    write_hyperparameters(tmp_path / "first" / "events", squares, {"final/accuracy/dark": 0.75}, 0, "final", {})

    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    reader = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    request = RequestContext()
    experiment = reader.experiment_from_metadata(request, "", True, reader.hparams_metadata(request, ""), None)
    settings = {"method", "seed", "warmup", *(f"align.lambda{k}" for k in (1, 2, 3, 4)), "align.mask_sampling"}
    assert {column.name for column in experiment.hparam_infos} == settings
    assert [column.name for column in experiment.hparam_infos if column.differs] == ["seed"]
    assert {column.name.tag for column in experiment.metric_infos} == {"search/objective", "final/accuracy/dark"}
