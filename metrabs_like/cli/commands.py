"""All commands and all configs whose fields are flags: the tables that reference and tests walk."""

from types import ModuleType

from metrabs_like.cli import (
    convert_weights,
    evaluate,
    export,
    inspect_data,
    predict,
    prepare_data,
    systems,
    train,
)
from metrabs_like.data.pipeline import PipelineConfig
from metrabs_like.data.synthetic import SyntheticConfig
from metrabs_like.data.whole_image_config import WholeImageConfig
from metrabs_like.training.config import TrainConfig

COMMANDS: dict[str, ModuleType] = {
    "prepare-data": prepare_data,
    "inspect-data": inspect_data,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "predict": predict,
    "convert-weights": convert_weights,
}
CONFIGS: dict[str, type] = {
    "train": TrainConfig,
    "data": PipelineConfig,
    "images": WholeImageConfig,
    "synthetic": SyntheticConfig,
    **{name: module.Config for name, module in systems.SYSTEMS.items()},
}
