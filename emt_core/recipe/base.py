"""What several parts of a recipe share: frozen models, how a run uses the machine, the camera."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

Role = Literal["pool", "robot"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Sharding = Literal["none", "fsdp", "zero2", "zero3"]
Tracker = Literal["trackio", "wandb", "tensorboard"]

MAX_IMAGE_PIXELS = 768 * 768
"""Larger images are scaled down for a VLM that keeps an image's own size (Qwen)."""


class Frozen(BaseModel):
    """Base of all configuration: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields that the model did not have from its beginning. At its default such a field is neither
    written nor hashed, so that a recipe that does not name it keeps the keys it had before."""

    def unhashed_fields(self) -> set[str]:
        """Fields that change nothing as they stand: neither written nor hashed into the key."""
        fields = type(self).model_fields
        return {name for name in self.ADDED if getattr(self, name) == fields[name].default}

    @model_serializer(mode="wrap")
    def _without_unhashed(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unhashed = self.unhashed_fields()
        return {name: value for name, value in serialize(self).items() if name not in unhashed}


class StageConfig(Frozen):
    def uses(self) -> tuple[str, ...]:
        """Optional parents (Stage.may_use) that this configuration asks for."""
        return ()

    def further(self) -> tuple[str, ...]:
        """Further instances of parent stages, as `stage.name` (`stage.` is the unnamed one)."""
        return ()


class Ray(Frozen):
    """A Ray cluster, for `engine: ray`."""

    address: str = ""
    """Of a running cluster: `auto`, `host:6379`, `ray://host:10001`. Empty: one of this machine,
    for the time of the run."""

    cpus: int = Field(default=1, ge=1)
    """Cores of each worker."""

    gpus: float = Field(default=0, ge=0)
    """GPUs of each worker (0.5: two share one). 0: one where the process that runs the recipe sees
    a GPU, else none. On a machine without a GPU that uses a cluster with GPUs, name it."""


class Slurm(Frozen):
    """How jobs are submitted, for `engine: slurm`."""

    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: the same jobs as processes of this machine, to try a recipe."""

    partition: str = ""
    """Where jobs run; empty: the cluster's default."""

    account: str = ""
    """Who pays; empty: the user's default."""

    minutes: int = Field(default=240, ge=1)
    """Time limit of a job. One that reaches it is submitted again and goes on."""

    gpus: int = Field(default=1, ge=0)
    """GPUs of each job: it uses one. 0: it runs on CPUs."""

    cpus: int = Field(default=8, ge=1)
    """Cores of each job."""

    memory_gb: float = Field(default=0, ge=0)
    """Memory of each job; 0: the cluster's own default."""

    options: dict[str, str] = Field(default_factory=dict)
    """Further options of sbatch, by name: `{qos: high, constraint: a100}`."""


class Runtime(Frozen):
    """How and where to run; changes no result (a test says so) and enters no key.

    To the last bit, but for measures that run a model: perplexities and CLIP scores of another
    batch size agree to rounding, and so do those of a GPU in its own precision.
    """

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""

    workers: int = Field(default=2, ge=0)
    """Processes that decode images."""

    engine: Literal["local", "ray", "slurm"] = "local"
    """Where the processes that embed, score, ask or play run: on this machine, on a Ray cluster, or
    as Slurm jobs (docs/scaling.md). What they make is the same."""

    processes: int = Field(default=0, ge=0)
    """Processes that work at once on embed, score by a model, retain and evaluate, each with a
    model of its own. 0: as many as there are GPUs; one on a CPU, and one job with Slurm."""

    training_processes: int = Field(default=0, ge=0)
    """Processes that train one model together (midtrain, finetune), under torchrun. 0: one for each
    GPU, with Slurm for each GPU of a job; one on a CPU. With `device: cuda:1` one."""

    ray: Ray = Ray()
    """The cluster of `engine: ray`."""

    slurm: Slurm = Slurm()
    """The jobs of `engine: slurm`."""

    batch: int = Field(default=64, ge=1)
    """Samples a forward pass at the most; halved by itself when memory runs out. Where a recipe
    leaves it out, mid-training takes as many of these as are expected to fit (`emt midtrain RECIPE
    --dry-run`)."""

    sharding: Sharding = "none"
    """Training on several devices. none: each holds the whole model (DDP). fsdp: weights, gradients
    and moments are spread over them (PyTorch's FSDP2, ZeRO stage 3); give `batch` with it. zero2,
    zero3: DeepSpeed's, which is refused: docs/training.md says why."""

    gradient_checkpointing: bool = False
    """Training: compute activations again in the backward pass (less memory, a third more time)."""

    report_to: tuple[Tracker, ...] = ()
    """Trackers that midtrain, finetune and evaluate send their steps to, beside steps.jsonl
    (docs/training.md says where the logs lie): `[trackio, tensorboard]`."""

    frame_cache: str = "cache/frames"
    """Folder of the frames that fine-tuning reads, relative to the workspace. `$NAME` stands for a
    variable of the environment: `$TMPDIR/frames` is a fast disk of the node's own."""

    frame_cache_gb: float = Field(default=100.0, gt=0)
    """Bound on all frame caches together (the paper's three robot sets take 60 to 86 GB). Those not
    used the longest are dropped for a new one."""

    commit_rows: int = Field(default=50_000, ge=1)
    """Rows between two commits of a store under construction: what a kill can cost at the most."""

    @property
    def workers_have_gpus(self) -> bool:
        """Whether the engine gives GPUs to its workers, whatever this machine has."""
        given = {
            "local": False,
            "ray": self.ray.gpus > 0 and bool(self.ray.address),
            "slurm": self.slurm.gpus > 0 and self.slurm.cluster == "slurm",
        }
        return given[self.engine] and self.device in ("auto", "cuda")


Vec3 = tuple[float, float, float]

CONTROL_STEPS = 500
"""Control steps of 12.5 ms in a Meta-World episode (max_path_length); one more is an error."""


def check_control_steps(actions: int, repeat: int, field: str) -> None:
    """Raises ValueError where `actions` of `repeat` control steps outlast a Meta-World episode."""
    if actions * repeat > CONTROL_STEPS:
        raise ValueError(
            f"{field}: {actions} actions of {repeat} control steps each are {actions * repeat}, "
            f"a Meta-World episode has {CONTROL_STEPS}; at most {CONTROL_STEPS // repeat} actions"
        )


class Camera(Frozen):
    """A pinhole camera that looks at a point, upright."""

    position: Vec3 = (0.75, 0.075, 0.7)
    """Metres, world frame. Where people move Meta-World's far corner2 camera to."""

    target: Vec3 = (0.0, 0.70, 0.12)
    """The point in the centre of the image, metres."""

    fovy: float = Field(default=40.0, gt=1, lt=170)
    """Vertical field of view, degrees."""
