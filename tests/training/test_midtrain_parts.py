"""What mid-training and fine-tuning share: schedule, steps.jsonl, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from emt_core.errors import EmtError
from emt_core.training.checkpoints import Checkpoints, read_training_state, write_training_state
from emt_core.training.midtrain.rejects import RejectLog, Usable, count_rejects
from emt_core.training.optimizer import build_optimizer, check_finite
from emt_core.training.schedule import cosine_rate, seed_of, seed_step, set_rate, warmup_steps
from emt_core.training.steps_log import StepsLog, iterate_steps


def test_rates_are_those_of_transformers():
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-5)
    warmup = warmup_steps(37, 0.1)
    reference = get_cosine_schedule_with_warmup(optimizer, warmup, 37)
    for step in range(1, 38):
        rate = cosine_rate(step, peak=5e-5, steps=37, warmup=warmup)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()
    with pytest.raises(ValueError):
        cosine_rate(38, peak=1.0, steps=37, warmup=0)


def test_a_least_rate_is_that_of_transformers():
    import torch
    from transformers import get_cosine_with_min_lr_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-5)
    reference = get_cosine_with_min_lr_schedule_with_warmup(optimizer, 4, 37, min_lr=1e-5)
    for step in range(1, 38):
        rate = cosine_rate(step, peak=5e-5, steps=37, warmup=4, least=1e-5)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()


def test_groups_have_their_own_factor_and_betas():
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    optimizer = build_optimizer(
        model, betas=(0.8, 0.95), factor_of=lambda name: 0.1 if name.startswith("0.") else 1.0
    )
    set_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        name: pytest.approx(0.05 if name.startswith("0.") else 0.5)
        for name, _ in model.named_parameters()
    }
    assert {name: rates[id(p)] for name, p in model.named_parameters()} == expected
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}


def test_a_steps_random_state_depends_on_the_step_alone():
    import torch

    def draw(step: int) -> torch.Tensor:
        seed_step(3, step)
        return torch.rand(4)

    first = draw(5)
    draw(6)
    assert torch.equal(draw(5), first)
    assert not torch.equal(draw(6), first)
    assert seed_of(1, "epoch", 0) != seed_of(1, "epoch", 1)


def test_steps_log_drops_what_comes_after_the_checkpoint(tmp_path: Path):
    log = StepsLog(tmp_path / "steps.jsonl")
    for step in range(1, 6):
        log.write(step, {"loss": 1 / step, "grad_norm": float("inf"), "samples": 8 * step})
    before = log.last["seconds"]
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert [record["step"] for record in iterate_steps(log.path)] == [1, 2, 3, 4, 5]
    again = StepsLog(log.path, after=3)
    assert again.last["samples"] == 24 and again.seconds >= next(iterate_steps(log.path))["seconds"]
    again.write(4, {"loss": 0.5})
    records = list(iterate_steps(log.path))
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["loss"] == 0.5 and records[0]["grad_norm"] is None
    assert records[-1]["seconds"] >= records[-2]["seconds"] and before >= 0
    with pytest.raises(ValueError):
        again.write(6, {})


def small_model(width: int = 4):
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, width), torch.nn.LayerNorm(width), torch.nn.Linear(width, 1)
    )
    return model, build_optimizer(model, weight_decay=0.1)


def train(model, optimizer, steps: range) -> None:
    import torch

    for step in steps:
        seed_step(0, step)
        set_rate(optimizer, 0.01)
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()


def test_a_resumed_run_has_the_same_bits(tmp_path: Path):
    import torch

    whole, optimizer = small_model()
    train(whole, optimizer, range(1, 11))
    kept = Checkpoints(tmp_path / "checkpoints", keep=1)
    first, optimizer = small_model()
    train(first, optimizer, range(1, 6))
    kept.save(5, lambda folder: write_training_state(folder, first, optimizer), {"samples": 40})

    second, optimizer = small_model()
    found = kept.latest()
    assert found is not None and found.step == 5 and found.facts == {"samples": 40}
    read_training_state(found.path, second, optimizer)
    train(second, optimizer, range(6, 11))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name

    other, optimizer = small_model(width=5)
    with pytest.raises(EmtError, match="another model"):
        read_training_state(found.path, other, optimizer)


def test_a_checkpoint_cut_short_is_never_taken(tmp_path: Path):
    kept = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        kept.save(step, lambda folder: (folder / "model.bin").write_bytes(b"x" * 100))
    assert [item.step for item in kept.all()] == [2, 3]
    newest = kept.latest()
    assert newest is not None
    with (newest.path / "model.bin").open("r+b") as file:
        file.truncate(99)
    assert [item.step for item in kept.all()] == [2]
    (tmp_path / "step-00000009").mkdir()  # a folder without its record
    partial = tmp_path / ".step-00000007.partial"
    partial.mkdir()

    def fails(folder: Path) -> None:
        (folder / "half").write_bytes(b"y")
        raise OSError("no space left on device")

    with pytest.raises(OSError):
        kept.save(4, fails)
    latest = kept.latest()
    assert latest is not None and latest.step == 2
    assert not list(tmp_path.glob(".*.partial"))


def rejects(step: int, reasons: list[str]) -> list[dict[str, str]]:
    return [
        {"id": f"web:{step}-{n}", "reason": reason, "detail": "a\u2028b"}
        for n, reason in enumerate(reasons)
    ]


def test_rejects_are_kept_once_whatever_line_ends_their_details_have(tmp_path: Path):
    path = tmp_path / "rejects.jsonl"
    log = RejectLog(path, after=0)
    for step in (1, 2, 3):
        log.write(step, rejects(step, ["image_refused", "no_question"]))
        log.write(step, rejects(step, ["image_refused"]))  # another epoch
    assert count_rejects(path) == {"image_refused": 3, "no_question": 3}
    again = RejectLog(path, after=2)
    again.write(3, rejects(2, ["image_refused"]))  # kept from before
    assert count_rejects(path) == {"image_refused": 2, "no_question": 2}


def test_a_few_odd_samples_do_not_stop_training_and_most_do(tmp_path: Path):
    usable = Usable()
    for step in range(20):
        usable.check(5, rejects(step, ["template_refused"] * 3 + ["image_refused"] * 8), tmp_path)
    usable = Usable()
    with pytest.raises(EmtError, match="template failed on 52 of the first 64"):
        for step in (1, 2, 3, 4):
            usable.check(3, rejects(step, ["template_not_understood"] * 13), tmp_path)
    assert usable.seen == 64  # fewer are too few to judge
    with pytest.raises(
        EmtError, match=r"processor failed on 33 of the first 64 samples .a\\u2028b"
    ):
        Usable().check(31, rejects(1, ["image_refused"] * 30 + ["text_refused"] * 3), tmp_path)
    with pytest.raises(EmtError, match="not one of the first 64"):
        Usable().check(0, rejects(1, ["images_exceed_cutoff"] * 64), tmp_path)


def test_what_is_not_finite_stops_training_and_names_its_batch():
    check_finite(3, loss=1.0, grad_norm=0.5, samples=["web:1"], kept=0)
    with pytest.raises(EmtError, match=r"loss became nan at step 7") as caught:
        check_finite(
            7, loss=float("nan"), grad_norm=1.0, samples=[f"web:{i}" for i in range(10)], kept=5
        )
    assert "web:0" in caught.value.message() and "and 2 more" in caught.value.message()
    assert "step 5 is kept" in caught.value.remedy
    with pytest.raises(EmtError, match="gradient became inf"):
        check_finite(7, loss=1.0, grad_norm=float("inf"), samples=["web:1"], kept=0)
