"""Which device a model runs on, and in which arithmetic: one for the whole of an artifact."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emt_core.errors import EmtError
from emt_core.run.device import choose_device
from emt_core.workspace.files import read_json_if_there, write_json
from emt_core.workspace.process import rank, world_size

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]

NOTE = "arithmetic.json"


@dataclass(frozen=True)
class Arithmetic:
    """What rounding depends on; rows or steps of two of these never meet in one artifact."""

    dtype: Precision
    device: str
    """`cpu`, `cuda`: their kernels add in other orders."""


def settled_arithmetic(
    out: Path, precision: Precision, device: str, *, on_gpu_elsewhere: bool = False
) -> Arithmetic:
    """The arithmetic of an artifact: settled by the run that begins it, kept by those that go on.

    out: its data folder, which keeps a note of it (arithmetic.json). `precision` counts for the run
    that begins. on_gpu_elsewhere: workers on GPUs make it, whatever is here; `auto` is bfloat16
    then. Raises EmtError for one that goes on on another kind of device.
    """
    import torch

    here = choose_device(device)
    if on_gpu_elsewhere and here.type != "cuda":
        here = torch.device("cuda")
        precision = "bfloat16" if precision == "auto" else precision
    noted = arithmetic_of(out)
    # a note that lies there alone binds nobody; but a rank cannot tell, rank 0 has begun to write
    if noted and (world_size() > 1 or any(path.name != NOTE for path in out.iterdir())):
        _require_device(noted, here.type, out)
        return noted
    name = "bfloat16" if dtype_name(choose_dtype(precision, here)) == "bfloat16" else "float32"
    settled = Arithmetic(dtype=name, device=here.type)
    if rank() == 0:
        write_json(out / NOTE, asdict(settled))
    return settled


def require_here(settled: Arithmetic, device: str, out: Path) -> None:
    """Raises EmtError where this process would compute on another kind of device.

    device: as in Runtime. out: the artifact's data folder.
    """
    _require_device(settled, choose_device(device).type, out)


def _require_device(settled: Arithmetic, here: str, out: Path) -> None:
    if settled.device != here:
        raise EmtError(
            f"this was begun in {settled.dtype} on {settled.device} and cannot go on on {here}"
            ": the results would be of two arithmetics",
            where=out,
            remedy=f"set runtime.device to {settled.device}, or delete the folder to begin anew",
        )


def arithmetic_of(data: Path) -> Arithmetic | None:
    """What the note in an artifact's data folder says; None without one."""
    noted = read_json_if_there(data / NOTE)
    return Arithmetic(**noted) if noted else None


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """auto: bfloat16 on a GPU that computes in it, else float32 (CPUs emulate bfloat16)."""
    import torch

    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def dtype_name(dtype: torch.dtype) -> str:
    """`float32`, `bfloat16`."""
    return str(dtype).removeprefix("torch.")
