"""One key, one arithmetic: `precision: auto` is settled by the run that begins an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from precision import auto_is
from small_world import small_world
from tiny_index import embed_plan, make_samples, write_sources
from tiny_models import save_clip, save_internvl

from emt_core.data.features import Features
from emt_core.errors import EmtError
from emt_core.models import device
from emt_core.models.device import (
    NOTE,
    Arithmetic,
    arithmetic_of,
    choose_dtype,
    require_here,
    settled_arithmetic,
)
from emt_core.recipe.base import Runtime, Slurm
from emt_core.recipe.recipe import load_recipe
from emt_core.run.plan import make_plan
from emt_core.run.runner import run_plan
from emt_core.workspace.artifact import Artifact, Workspace
from emt_core.workspace.files import read_json, write_json
from emt_core.workspace.table import Table

ROWS = {"pool": 12, "arm": 6}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    save_internvl(tmp_path / "model")
    return tmp_path


def embed(
    world: Path, workspace: str, order: Sequence[str], precision: str, **runtime: int
) -> Artifact:
    """order: of the sources; another one is another run over the same rows."""
    folder = Workspace.open(world / workspace, create=True)
    roots = {}
    for name in order:
        role = "robot" if name == "arm" else "pool"
        roots[name] = (world / name, make_samples(name, ROWS[name], world / name, role=role))
    config = {"encoder": "vlm", "model": "model", "precision": precision}
    settings = {"workers": 0, "batch": 8, "device": "cpu", **runtime}
    plan = embed_plan(write_sources(folder, roots), world, config, settings)
    return run_plan(plan, folder, quiet=True)["embed"]


def vectors(artifact: Artifact) -> np.ndarray:
    features = Features.at(artifact.data / "features.lance")
    return features.take(np.arange(features.rows))


def test_rows_of_another_arithmetic_are_embedded_anew(world: Path):
    """`precision: auto` is bfloat16 on a GPU and float32 on a CPU: one setting, two arithmetics.

    The first artifact is what a GPU leaves: vectors in bfloat16, settings that say auto.
    """
    from_gpu = embed(world, "ws", ("pool", "arm"), "bfloat16")
    assert arithmetic_of(from_gpu.data) == Arithmetic("bfloat16", "cpu")
    manifest = read_json(from_gpu.path / "manifest.json")
    manifest["config"]["precision"] = "auto"
    write_json(from_gpu.path / "manifest.json", manifest)

    found = embed(world, "ws", ("arm", "pool"), "auto")
    assert arithmetic_of(found.data) == Arithmetic("float32", "cpu")
    assert found.metrics["reused"] == 0
    fresh = embed(world, "other", ("arm", "pool"), "auto")
    np.testing.assert_array_equal(vectors(found), vectors(fresh))
    in_the_others_order = np.concatenate([vectors(from_gpu)[12:], vectors(from_gpu)[:12]])
    assert np.abs(in_the_others_order - vectors(found)).max() > 1e-3

    again = embed(world, "ws", ("pool", "arm"), "auto")  # what was made on the CPU will do
    assert again.metrics["reused"] == 18
    np.testing.assert_array_equal(vectors(again)[12:], vectors(found)[:6])


def kill_at_append(monkeypatch: pytest.MonkeyPatch, table: str, number: int) -> None:
    append = Table.append
    seen = []

    def appended(self: Table, rows: Any) -> None:
        append(self, rows)
        if self.path.name == table:
            seen.append(len(rows))
        if len(seen) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(Table, "append", appended)


RECIPE = """
name: r
runtime: {workers: 0, commit_rows: 8, batch: 4, device: cpu}
sources:
  - {name: web, role: pool, format: llava, path: web/web.json, image_root: images}
  - {name: arm, role: robot, format: lerobot, path: arm, camera: observation.images.front,
     frames_per_episode: 4}
embed: {encoder: vlm, model: vlm}
measure: {kind: clip, model: clip}
score: {}
"""

TABLES = {"embed": ("features.lance", "vector"), "score": ("scores.lance", "logit")}


@pytest.mark.parametrize("stage", TABLES)
def test_what_was_begun_in_one_precision_ends_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
):
    """Killed where `auto` means float32, gone on where it means bfloat16, and the other way."""
    small_world(tmp_path, episodes=4, pool_rows=64)
    save_internvl(tmp_path / "vlm")
    save_clip(tmp_path / "clip")
    (tmp_path / "r.yaml").write_text(RECIPE)
    plan = make_plan(load_recipe(tmp_path / "r.yaml"))
    table, column = TABLES[stage]

    def run(name: str) -> Artifact:
        return run_plan(
            plan, Workspace.open(tmp_path / name, create=True), until=stage, quiet=True
        )[stage]

    def numbers(artifact: Artifact) -> np.ndarray:
        values = Table(artifact.data / table).take(np.arange(artifact.rows), [column])[column]
        values = values.combine_chunks()
        if column == "vector":
            values = values.flatten()
        return np.asarray(values, np.float32).reshape(artifact.rows, -1)

    whole = {}
    for dtype in (torch.float32, torch.bfloat16):
        auto_is(monkeypatch, dtype)
        whole[dtype] = numbers(run(f"whole-{dtype}"))
    assert not np.array_equal(whole[torch.float32], whole[torch.bfloat16], equal_nan=True)
    for begun, later in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        with monkeypatch.context() as patch:
            auto_is(patch, begun)
            kill_at_append(patch, table, 3)
            with pytest.raises(KeyboardInterrupt):
                run(f"begun-{begun}")
        auto_is(monkeypatch, later)
        ended = run(f"begun-{begun}")
        np.testing.assert_array_equal(numbers(ended), whole[begun])
        assert arithmetic_of(ended.data) == Arithmetic(str(begun)[6:], "cpu")  # type: ignore[arg-type]


def test_what_was_begun_on_another_kind_of_device_does_not_go_on(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    """The note is what a GPU leaves; the rows are there, and stay."""
    with monkeypatch.context() as patch:
        kill_at_append(patch, "features.lance", 1)
        with pytest.raises(KeyboardInterrupt):
            embed(world, "ws", ("pool", "arm"), "auto", commit_rows=4)
    (building,) = (world / "ws" / "embed").glob("*.building")
    write_json(building / "data" / NOTE, asdict(Arithmetic("bfloat16", "cuda")))
    with pytest.raises(EmtError, match="begun in bfloat16 on cuda") as caught:
        embed(world, "ws", ("pool", "arm"), "auto", commit_rows=4)
    assert "runtime.device to cuda" in caught.value.remedy
    assert Table(building / "data" / "features.lance").rows


def test_a_run_that_left_nothing_settles_nothing(tmp_path: Path):
    (tmp_path / "data").mkdir()
    write_json(tmp_path / "data" / NOTE, asdict(Arithmetic("bfloat16", "cuda")))
    settled = settled_arithmetic(tmp_path / "data", "auto", "cpu")
    assert settled == arithmetic_of(tmp_path / "data") == Arithmetic("float32", "cpu")


def test_workers_on_gpus_settle_what_a_machine_without_one_leads(tmp_path: Path):
    """A login node submits jobs with GPUs: it settles on cuda, and computes nothing itself."""
    no_gpu = Runtime(device="auto", engine="slurm")
    assert no_gpu.workers_have_gpus
    settled = settled_arithmetic(tmp_path, "auto", "cpu", on_gpu_elsewhere=True)
    assert settled == arithmetic_of(tmp_path) == Arithmetic(dtype="bfloat16", device="cuda")
    with pytest.raises(EmtError, match="begun in bfloat16 on cuda and cannot go on on cpu"):
        require_here(settled, "cpu", tmp_path)
    (tmp_path / "features.lance").mkdir()
    assert settled_arithmetic(tmp_path, "auto", "cpu", on_gpu_elsewhere=True) == settled
    on_cpus = ({"device": "cpu"}, {"slurm": Slurm(gpus=0)}, {"slurm": Slurm(cluster="local")})
    for settings in on_cpus:
        assert not Runtime(**{"engine": "slurm", **settings}).workers_have_gpus


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_that_multiplies_in_bfloat16_does_so_for_large_models(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag
):
    """No such CPU is here: its /proc/cpuinfo stands in its place."""
    cpu = torch.device("cpu")
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "CPU_INFO", info)
    assert choose_dtype("auto", cpu, 10**9) == torch.float32  # a system that does not say
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n")
    assert choose_dtype("auto", cpu, 10**9) == torch.float32
    info.write_text(f"processor\t: 0\nflags\t\t: fpu avx2 {flag} sse\n")
    assert choose_dtype("auto", cpu, 10**9) == torch.bfloat16
    assert choose_dtype("auto", cpu, 4_231_040) == torch.float32  # the demo's model
    assert choose_dtype("float32", cpu, 10**9) == torch.float32
    if flag == "amx_bf16":
        small = embed(world, "small", ("pool",), "auto")
        assert arithmetic_of(small.data) == Arithmetic("float32", "cpu")
        monkeypatch.setattr(device, "LARGE", 1_000)
        large = embed(world, "large", ("pool",), "auto")
        assert arithmetic_of(large.data) == Arithmetic("bfloat16", "cpu")
        a, b = vectors(small).astype(np.float32), vectors(large).astype(np.float32)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.999 and (a != b).any()
