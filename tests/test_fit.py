"""What `fit` does beside learning: measuring on the way, attention inside documents, frozen weights, figures."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretrain_world import records

from ipt_stream.errors import TrainingError
from ipt_stream.training.fit import Evaluation, FitSettings, FitSummary, Precision, fit
from ipt_stream.training.fit_settings import uses_bfloat16
from ipt_stream.training.models import load_model
from ipt_stream.training.running import RunSettings

SETTINGS = FitSettings(learning_rate=1e-2, warmup_steps=2, checkpoint_steps=4, log_steps=1)
STEPS, LENGTH = 12, 16


def loader() -> Any:
    """Batches of different sizes, labels of which a part counts."""
    import torch
    from torch.utils.data import DataLoader

    drawn = torch.Generator().manual_seed(0)
    batches = []
    for step in range(STEPS):
        tokens = torch.randint(0, 300, (2 + step % 3, LENGTH + step % 2), generator=drawn)
        batches.append({"input_ids": tokens, "labels": tokens.masked_fill(tokens % 3 == 0, -100)})
    return DataLoader(batches, batch_size=None, shuffle=False)


def run(model_folder: Path, output: Path, evaluation: Evaluation | None = None, **settings: Any) -> FitSummary:
    model = load_model(str(model_folder), dropout=0.1)
    return fit(
        model, loader(), SETTINGS, steps=STEPS, output=str(output), seed=3, evaluation=evaluation,
        run=RunSettings.model_validate(settings),
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plain")
    assert run(model_folder, output, device_flops=1e12).evaluations == ()
    return output


def losses(output: Path) -> list[float]:
    return [record["loss"] for record in records(output)]


class Measured:
    """Draws from every generator, and remembers how it was called; stops the training on request."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, model: Any) -> Mapping[str, float]:
        import torch

        self.calls += 1
        if self.calls == self.stop_at:
            raise InterruptedError
        assert not any(module.training for module in model.modules())
        assert torch.is_inference_mode_enabled()
        drawn = float(torch.rand(1)) + random.random() + float(np.random.rand())
        logits = model(input_ids=torch.zeros(1, 4, dtype=torch.int64)).logits
        return {"drawn": drawn, "logit": logits[0, 0, 0]}


def test_measuring_changes_no_bit_of_training(model_folder: Path, plain: Path, tmp_path: Path) -> None:
    measure = Measured()
    summary = run(model_folder, tmp_path, Evaluation(5, measure, at_start=True))
    assert losses(tmp_path) == losses(plain)
    assert [point["step"] for point in summary.evaluations] == [0, 5, 10, 12]
    assert measure.calls == 4
    assert list(summary.evaluations) == records(tmp_path, "evaluations.jsonl")
    assert len({point["logit"] for point in summary.evaluations}) == 4, "the model that is trained is measured"


def test_each_step_is_measured_once_over_a_stop(model_folder: Path, plain: Path, tmp_path: Path) -> None:
    whole = run(model_folder, tmp_path / "whole", Evaluation(1, Measured()))
    with pytest.raises(InterruptedError):
        run(model_folder, tmp_path / "parts", Evaluation(1, Measured(stop_at=10)))
    assert len(records(tmp_path / "parts", "evaluations.jsonl")) == 9, "one beyond the checkpoint of step 8"
    summary = run(model_folder, tmp_path / "parts", Evaluation(1, Measured()))
    assert summary.resumed_from == 8
    assert [point["step"] for point in summary.evaluations] == list(range(1, STEPS + 1))
    assert [p["logit"] for p in summary.evaluations] == [p["logit"] for p in whole.evaluations]
    assert losses(tmp_path / "parts") == losses(plain)


def test_composers_figures_are_in_the_metrics(plain: Path) -> None:
    last = records(plain)[-1]
    assert last["throughput/tokens_per_sec"] > 0 and last["throughput/device/flops_per_sec"] > 0
    assert last["throughput/device/mfu"] == pytest.approx(last["throughput/device/flops_per_sec"] / 1e12)
    assert last["time/remaining_estimate"] == pytest.approx(0, abs=1e-6)
    assert len({record["batch"] for record in records(plain)}) == STEPS


def test_flops_are_six_a_weight_and_token_and_attentions(model_folder: Path) -> None:
    from ipt_stream.training.composer_parts import flops_per_token

    model = load_model(str(model_folder))
    fixed, per_position = flops_per_token(model)
    hidden, layers, vocabulary = 64, 2, model.config.vocab_size
    weights = layers * (4 * hidden * hidden + 3 * hidden * 128 + 2 * hidden) + hidden + vocabulary * hidden
    assert fixed == 6 * weights
    assert per_position == 12 * layers * hidden


def test_only_weights_that_require_gradients_are_trained(model_folder: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from ipt_stream.training.composer_parts import mean_loss

    base = load_model(str(model_folder))
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = next(iter(loader()))
    own = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    assert torch.allclose(mean_loss(model, batch["input_ids"], batch["labels"]), own, atol=1e-5)
    fit(model, loader(), SETTINGS, steps=STEPS, output=str(tmp_path), seed=0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("lora_" in name for name in changed)


def test_a_document_sees_nothing_of_the_others(model_folder: Path) -> None:
    import torch

    from ipt_stream.training.attention import document_attention
    from ipt_stream.training.composer_parts import mean_loss

    model = load_model(str(model_folder)).eval()
    drawn = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, 300, (2, 12), generator=drawn)
    ids = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, -1], [0] * 12])
    inside = document_attention(ids)
    assert inside["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 0], [*range(12)]]
    with torch.inference_mode():
        logits = model(input_ids=tokens, **inside).logits
        for document in (0, 1, 2):
            here = ids[0] == document
            changed = tokens.clone()
            changed[0, here] = torch.randint(3, 300, (int(here.sum()),), generator=drawn)
            other = model(input_ids=changed, **inside).logits
            assert torch.equal(other[0, ~here], logits[0, ~here]), "what stands elsewhere is as it was, to the bit"
            assert not torch.allclose(other[0, here], logits[0, here])
            alone = model(input_ids=tokens[:1, here]).logits
            assert torch.allclose(alone[0], logits[0, here], atol=1e-5), "and each is read as if it stood alone"
        assert torch.allclose(model(input_ids=tokens[1:]).logits, logits[1:], atol=1e-5)
        labels = tokens.masked_fill(ids == -1, -100)
        masked = mean_loss(model, tokens, labels, ids)
        whole = model(input_ids=tokens, labels=labels, **inside).loss
        across = mean_loss(model, tokens, labels)
    assert float(masked) == pytest.approx(float(whole), abs=1e-5)
    assert float(masked) != pytest.approx(float(across), abs=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")  # torch's compiler imports what torch deprecates
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # and looks at what it warns of
def test_compiled_layers_learn_the_same(model_folder: Path, plain: Path, tmp_path: Path) -> None:
    import torch

    torch._dynamo.reset()
    model = load_model(str(model_folder), dropout=0.0)
    same = load_model(str(model_folder), dropout=0.0)
    batches = [batch for batch in loader() if batch["input_ids"].shape == (2, LENGTH)]
    for name, one, compiled in (("plain", same, False), ("compiled", model, True)):
        fit(
            one, batches, FitSettings(learning_rate=1e-2, log_steps=1), steps=len(batches),
            output=str(tmp_path / name), seed=0, run=RunSettings(compile=compiled),
        )  # fmt: skip
    assert all(layer._compiled_call_impl is not None for layer in model.model.layers)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


def test_bfloat16_learns_about_the_same_and_goes_on_to_the_same_bits(model_folder: Path, tmp_path: Path) -> None:
    import torch

    batches = list(loader())[:6]

    def run(name: str, precision: str, evaluation: Evaluation | None = None) -> tuple[Any, FitSummary]:
        model = load_model(str(model_folder), dropout=0.0)
        settings = SETTINGS.model_copy(update={"precision": Precision(precision)})
        output = str(tmp_path / name)
        return model, fit(model, batches, settings, steps=6, output=output, seed=3, evaluation=evaluation)

    whole, _ = run("whole", "bfloat16")
    run("exact", "float32")
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "exact"), rel=0.02)
    assert losses(tmp_path / "whole") != losses(tmp_path / "exact"), "it is another arithmetic"
    with pytest.raises(InterruptedError):
        run("parts", "bfloat16", Evaluation(1, Measured(stop_at=5)))
    resumed, summary = run("parts", "bfloat16")
    assert summary.resumed_from == 4
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for weight, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert weight.dtype is torch.float32 and torch.equal(weight, other)


def test_processors_compute_in_float32_whatever_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert not uses_bfloat16(Precision.AUTO)
    assert uses_bfloat16(Precision.BFLOAT16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has_it in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has_it=has_it: has_it)
        assert uses_bfloat16(Precision.AUTO) is has_it


def test_sharding_needs_someone_to_share_with(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is one"):
        run(model_folder, tmp_path, fsdp=True)
