from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models

SAVE = {"internvl": tiny_models.save_internvl, "qwen3_vl": tiny_models.save_qwen3_vl}


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save(root / kind) for kind, save in SAVE.items()}
