"""What a user's process does, as a process: plan, run, resume. `python embed_process.py '<json>'`.

{"workspace", "root", "rows", "embed": {...}, "runtime": {...}}; prints one line when the artifact
is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tiny_index import embed_plan, make_samples, write_sources

from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace


def write(workspace: Workspace, root: Path, rows: int) -> Artifact:
    pool = make_samples("pool", rows, root, files_of_rows=35)
    arm = make_samples("arm", rows // 4, root, role="robot", seed=1, files_of_rows=35)
    return write_sources(workspace, {"pool": (root, pool), "arm": (root, arm)})


def main(order: dict) -> None:
    root = Path(order["root"])
    workspace = Workspace.open(order["workspace"], create=True)
    found = workspace.artifacts("sources")  # a resumed run finds its sources done
    sources = found[0] if found else write(workspace, root, order["rows"])
    print("planned", flush=True)
    plan = embed_plan(sources, root, order["embed"], order["runtime"])
    artifact = run_plan(plan, workspace, quiet=False)["embed"]
    print("finished", artifact.key, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
