"""Tuning from a base model: all weights, adapters that the engine takes, and tokenizers that lack the format's ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_tune import evaluations, kill_after, losses

from ipt_stream.errors import TrainingError
from ipt_stream.stage import finished_figures
from ipt_stream.training.tune import TuneConfig, tune

pytestmark = [pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"source": "mills", "context": f"the old {what} by the river {number}",
         "pairs": [{"instruction": "what?", "response": what}]}
        for number, what in enumerate(["bridge", "miller", "keeper", "town"] * 8)
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("tuning") / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(examples: Path, base: Path, output: Path, **changes: Any) -> TuneConfig:
    settings = {
        "sources": [{"path": str(examples)}],
        "output": str(output),
        "base_model": str(base),
        "held_out": 0.2,
        "quality": {"every_steps": 10, "contexts": 2, "responses": 2, "shots": 1, "max_new_tokens": 8},
        "max_seq_len": 128,
        "tokens_per_batch": 256,
        "steps": 20,
        "lora": {"rank": 8, "dropout": 0.1, "merged": True},
        "fit": {"learning_rate": 1e-2, "warmup_steps": 2, "checkpoint_steps": 4, "log_steps": 4},
    }
    return TuneConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def adapted(examples: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("lora")
    tune(config(examples, model_folder, output))
    return output


def test_adapters_are_trained_and_published_beside_the_merged_model(adapted: Path, model_folder: Path) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ipt_stream.synthesis.engine import _lora_rank

    figures = finished_figures(str(adapted))
    assert figures is not None
    assert float(figures["loss_last"]) < float(figures["loss_first"]) * 0.9
    weights = load_file(adapted / "adapter" / "adapter_model.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == figures["parameters_trained"]
    assert int(figures["parameters_trained"]) < int(figures["parameters"]) / 3
    assert {name.rsplit(".", 3)[1] for name in weights} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}  # fmt: skip
    assert "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight" in weights, "as the engine names them"
    settings = json.loads((adapted / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["base_model_name_or_path"]) == (8, str(model_folder))
    assert _lora_rank(str(adapted / "adapter")) == 8
    tokens = torch.arange(4, 60).reshape(2, 28)
    base, merged = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (model_folder, adapted / "model"))
    with torch.inference_mode():
        before, wanted = base(tokens).logits, merged(tokens).logits
        found = PeftModel.from_pretrained(base, adapted / "adapter").eval()(tokens).logits
    assert torch.allclose(found, wanted, atol=1e-4)
    assert not torch.allclose(before, wanted, atol=1e-1)
    assert merged.state_dict().keys() == AutoModelForCausalLM.from_pretrained(model_folder).state_dict().keys()
    for part in ("model", "adapter"):
        assert AutoTokenizer.from_pretrained(adapted / part).eos_token == "</s>"
    assert not (adapted / "adapter" / "README.md").exists()


def test_a_killed_run_with_adapters_goes_on_to_the_same_bits(
    examples: Path, model_folder: Path, adapted: Path, tmp_path: Path
) -> None:
    import torch

    settings = config(examples, model_folder, tmp_path)
    child = "import sys; from ipt_stream.training.tune import *; tune(TuneConfig.model_validate_json(sys.argv[1]))"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", child, settings.model_dump_json()], env=environment)
    kill_after(process, tmp_path / "checkpoints" / "step-000000004.pt")
    assert not (tmp_path / "adapter").exists()
    assert 4 <= int(float(str(tune(settings).figures["resumed_from"]))) < 20
    assert losses(tmp_path) == losses(adapted)
    assert evaluations(tmp_path) == evaluations(adapted)
    for file in ("adapter/adapter_model.safetensors", "model/model.safetensors"):
        assert (tmp_path / file).read_bytes() == (adapted / file).read_bytes()


def test_adapters_alone_where_they_are_not_to_be_merged(examples: Path, model_folder: Path, tmp_path: Path) -> None:
    tune(config(examples, model_folder, tmp_path, lora={"target_modules": ["q_proj"]}, steps=3, quality=None))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "model").exists()
    with pytest.raises(TrainingError, match="layers named c_attn"):
        tune(config(examples, model_folder, tmp_path / "other", lora={"target_modules": ["c_attn"]}))


def test_all_weights_of_a_base_model_with_dropout(examples: Path, model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    more = [{"path": str(examples)}]
    report = tune(
        config(examples, model_folder, tmp_path, lora=None, dropout=0.25, steps=3, quality=None, validation=more)
    )
    assert report.figures["held_out"] == 32 - int(report.figures["pairs"]) + 32
    assert [record.keys() for record in evaluations(tmp_path)] == [{"step", "loss_validation"}]
    assert float(report.figures["loss_validation"]) == round(evaluations(tmp_path)[0]["loss_validation"], 4) > 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.attention_dropout == model.model.layers[0].self_attn.attention_dropout == 0.25
    assert not (tmp_path / "adapter").exists()
    before = AutoModelForCausalLM.from_pretrained(model_folder).state_dict()
    assert all(not weight.equal(before[name]) for name, weight in model.state_dict().items())
    longer = config(examples, model_folder, tmp_path / "long", lora=None, max_seq_len=2048, tokens_per_batch=4096)
    with pytest.raises(TrainingError, match=r"too short; wanted: at most 1,024 tokens; got: max_seq_len 2,048"):
        tune(longer)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama whose tokenizer has one special token, and neither `<s>` nor `</s>`."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("foreign")
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>", special=True)])
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=1,
                    num_key_value_heads=1, max_position_embeddings=512, eos_token_id=256)
    ).save_pretrained(folder)  # fmt: skip
    return folder


def test_a_tokenizer_without_the_format_s_ends_learns_them(examples: Path, foreign: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from ipt_stream.synthesis.tokens import load_tokenizer
    from ipt_stream.training.tune_model import tuning_model, tuning_tokenizer

    settings = config(examples, foreign, tmp_path / "out", lora=None, steps=3, quality=None, max_seq_len=256)
    tokenizer = tuning_tokenizer(settings, [])
    model = tuning_model(settings, tokenizer)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (257, 258, 259)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert layer.weight.shape[0] == 259
        assert torch.equal(layer.weight[257], layer.weight[256]) and torch.equal(layer.weight[258], layer.weight[256])
    tune(settings)
    engine_s = load_tokenizer(str(tmp_path / "out" / "model"))  # raises where the engine could not use it
    assert engine_s.eos_token_id == 258
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert (saved.config.vocab_size, saved.config.eos_token_id) == (259, 258)
    with pytest.raises(TrainingError, match="doesn't know <s> and </s>"):
        tune(config(examples, foreign, tmp_path / "lora", max_seq_len=256))
