"""The typed config of a run: a YAML file merged with dotted overrides and checked."""

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
