"""The robot set of a source that an index was made of."""

from __future__ import annotations

from pathlib import Path

from emt_core.data.index import Index, SourceRange
from emt_core.data.readers import locate, robot_set
from emt_core.data.readers.robot_set import RobotSet
from emt_core.recipe.form import parse_source


def robot_set_of(index: Index, source: SourceRange) -> RobotSet:
    """Where the set lay when it was read: one from the hub is not asked for again.

    Raises EmtError where the source has no episodes, or is gone.
    """
    config = parse_source(index.config_of(source))
    if config.format == "lerobot":
        return robot_set(config, source.root)
    return robot_set(config, locate(config, Path(index.artifact.manifest["base"])))
