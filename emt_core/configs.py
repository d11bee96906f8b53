"""Which model checks which stage's settings in a recipe."""

from __future__ import annotations

from emt_core import stage_config as core
from emt_core import vla_config as vla
from emt_core.benchmark_config import EvaluateConfig
from emt_core.measure_config import MeasureConfig
from emt_core.stage_config import StageConfig
from emt_core.train_config import MidtrainConfig, RetainConfig
from emt_core.trust.config import TrustConfig

CONFIGS: dict[str, type[StageConfig]] = {
    "sources": core.SourcesConfig,
    "embed": core.EmbedConfig,
    "category": core.CategoryConfig,
    "gap": core.GapConfig,
    "estimator": core.EstimatorConfig,
    "measure": MeasureConfig,
    "score": core.ScoreConfig,
    "trust": TrustConfig,
    "select": core.SelectConfig,
    "midtrain": MidtrainConfig,
    "retain": RetainConfig,
    "demos": vla.DemosConfig,
    "evaluate": EvaluateConfig,
    "finetune": vla.FinetuneConfig,
}
