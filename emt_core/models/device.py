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

LARGE = 100_000_000
"""Parameters from which `auto` takes bfloat16 on a CPU that computes in it. Smaller models gain
seconds, and their results would depend on the machine: the demo's figures are of 4 million."""

CPU_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
"""Flags of CPUs that multiply in bfloat16; others emulate it, at a sixth of float32's speed."""

CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Arithmetic:
    """What rounding depends on; rows or steps of two of these never meet in one artifact."""

    dtype: Precision
    device: str
    """`cpu`, `cuda`: their kernels add in other orders."""


def settled_arithmetic(
    out: Path,
    precision: Precision,
    device: str,
    *,
    parameters: int = 0,
    on_gpu_elsewhere: bool = False,
) -> Arithmetic:
    """The arithmetic of an artifact: settled by the run that begins it, kept by those that go on.

    out: its data folder, which keeps a note of it (arithmetic.json). `precision` counts for the run
    that begins. parameters: of the model, as for `choose_dtype`. on_gpu_elsewhere: workers on GPUs
    make it, whatever is here; `auto` is bfloat16 then. Raises EmtError for one that goes on on
    another kind of device.
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
    chosen = dtype_name(choose_dtype(precision, here, parameters))
    name = "bfloat16" if chosen == "bfloat16" else "float32"
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


def choose_dtype(precision: Precision, device: torch.device, parameters: int = 0) -> torch.dtype:
    """auto: bfloat16 on a device that computes in it, else float32.

    parameters: of the model; on a CPU fewer than LARGE stay in float32. 0: not known.
    """
    import torch

    if precision == "auto":
        wanted = device.type != "cpu" or parameters >= LARGE
        return torch.bfloat16 if wanted and has_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 and does not only emulate it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(CPU_BFLOAT16 & cpu_flags())


def cpu_flags() -> frozenset[str]:
    """What this machine's CPU can do, in Linux's words; empty where the system does not say."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def dtype_name(dtype: torch.dtype) -> str:
    """`float32`, `bfloat16`."""
    return str(dtype).removeprefix("torch.")
