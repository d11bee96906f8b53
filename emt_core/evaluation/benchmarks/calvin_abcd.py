"""CALVIN ABC-D: 1,000 chains of five instructions on the unseen scene D (Mees et al. 2022)."""

from __future__ import annotations

from pathlib import Path

from emt_core.errors import EmtError
from emt_core.evaluation.benchmarks.base import Benchmark, Task
from emt_core.recipe.evaluate import CalvinConfig

CHAINS = 1000
INSTALL = (
    "CALVIN needs Python 3.8 and an environment of its own: clone the repository mees/calvin with "
    "its submodules, run "
    "its install.sh there, fetch the data set task_ABC_D with its dataset/download_data.sh; then "
    "`evaluate.python: "
    ".../bin/python` and `evaluate.benchmark.dataset: .../task_ABC_D`"
)


def benchmark(config: CalvinConfig, base: Path) -> Benchmark:
    """Raises EmtError where the data set lacks its validation folder (the scene's
    configuration)."""
    dataset = (base / Path(config.dataset).expanduser()).resolve()
    if not config.dataset or not (dataset / "validation").is_dir():
        raise EmtError(
            "the CALVIN data set is not there", where=dataset / "validation", remedy=INSTALL
        )
    return Benchmark(
        name="calvin_abcd",
        title="CALVIN ABC-D",
        settings={"dataset": str(dataset), "chains": CHAINS},
        tasks=(Task(name="chain", max_steps=config.max_steps),),
        episodes=CHAINS,
        layouts="fixed",
        fixed_layouts=CHAINS,
        goals=5,
        state=("x", "y", "z", "roll", "pitch", "yaw"),
        fps=30.0,
        timeout_s=config.timeout_s,
        module="calvin_env",
        install=INSTALL,
    )
