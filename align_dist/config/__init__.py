"""The one typed description of a run: what a YAML file says, merged with dotted overrides and checked."""

from align_dist.config.load import known_keys, load_config, parse_config, to_yaml
from align_dist.config.sections import (
    AugmentationConfig,
    BenchmarkConfig,
    ClassifierConfig,
    DataConfig,
    DistributedConfig,
    EvaluationConfig,
    ProtocolConfig,
    RunConfig,
    TrainingConfig,
)

__all__ = [
    "AugmentationConfig",
    "BenchmarkConfig",
    "ClassifierConfig",
    "DataConfig",
    "DistributedConfig",
    "EvaluationConfig",
    "ProtocolConfig",
    "RunConfig",
    "TrainingConfig",
    "known_keys",
    "load_config",
    "parse_config",
    "to_yaml",
]
