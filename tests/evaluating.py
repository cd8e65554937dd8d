"""What the tests of evaluation share: made-up rows of each task's columns, a model that knows some answers by heart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipt_stream.evaluation.evaluate import EvaluateConfig

QUESTIONS: list[dict[str, Any]] = [
    {"query": "who built the old bridge", "choices": ["the miller", "a keeper of the stone town"], "gold": 1},
    {"query": "what is by the river", "choices": ["a town", "the mill", "new stone works of a keeper"], "gold": 0},
    {
        "query": "where lives the keeper",
        "choices": ["by the bridge", "by the river", "in town", "the old works"],
        "gold": 2,
    },
    {"query": "was the town new", "choices": ["a", "the"], "gold": 0},
    {"query": "what works by the river? ", "choices": ["the new mill", "the old mill"], "gold": 1},
    {"query": "who is the keeper of the stone", "choices": ["a miller", "bridge", "x"], "gold": 1},
]
SCHEMAS: list[dict[str, Any]] = [
    {"context_options": ["the miller met the keeper and he", "he"], "continuation": "was old.", "gold": 0},
    {"context_options": ["who lives by a bridge", "who lives by a river"], "continuation": "in town", "gold": 1},
]

ENDS = ("not", "who?", "by the", "77", "a town of", "Answer:", "...", "built 5", "old")
NUMBERS = [  # label, what the model says, whether that counts
    ("60.9", "60.9", True),
    ("1,200", "1200 of the mill", True),
    ("12.5%", "0.126", True),
    ("7", "8", False),
    ("-3.5", "3.5", False),
    ("94", "of 94 was", True),
]
ENTITIES = [  # label, what the model says, entity F1, exact F1
    ("Bank (ORG), Smith (PER)", "Bank (ORG), Smith (PER)", 1.0, 1.0),
    ("Paris (LOC)", "Paris (ORG)", 0.5, 0.0),
    ("Mill (ORG)", "who", 0.0, 0.0),
]


def number_prompt(index: int) -> str:
    return f"the {'old' if index % 2 else 'new'} works of year 200{index}\nQuestion: how many?\nAnswer:"


def entity_prompt(index: int) -> str:
    return f"the keeper of bridge {index} by town\nWho?\nAnswer:"


def choice_rows(options: Sequence[str], count: int, **columns: int) -> list[dict[str, Any]]:
    """Questions with `options`, each gold in its turn; `columns` are counted up to so many."""
    return [
        {
            "id": number,
            "input": f"the miller of {'river' if number % 3 else 'bridge'} {number}\nwas {ENDS[number % len(ENDS)]}",
            "options": list(options),
            "gold_index": (number * 2 + number // 3) % len(options),
            **{name: number % most for name, most in columns.items()},
        }
        for number in range(count)
    ]


def domain_rows() -> dict[str, list[dict[str, Any]]]:
    """Rows of each domain task, in the hub's columns."""
    relations = [f"{word} {end}" for word in ("the", "an old", "a") for end in ("mill", "town", "bridge", "x")]
    return {
        "pubmedqa": choice_rows(["yes", "no", "maybe"], 7),
        "chemprot": choice_rows([*relations, "none"], 14),
        "mqp": choice_rows(["different", "the same"], 6),
        "rct": choice_rows(["who", "what", "a built thing", "old", "town"], 11),
        "usmle": choice_rows(["a river", "the stone of the keeper", "x", "by"], 8),
        "fpb": choice_rows(["negative", "neutral", "positive"], 13),
        "fiqa_sa": choice_rows(["negative", "neutral", "positive"], 9),
        "headline": choice_rows(["No", "Yes"], 36, class_id=9),
        "convfinqa": [{"id": i, "input": number_prompt(i), "label": label} for i, (label, _, _) in enumerate(NUMBERS)],
        "ner": [{"input": entity_prompt(i), "label": [label]} for i, (label, *_) in enumerate(ENTITIES)],
    }


def said() -> list[str]:
    """What `remember` teaches: each prompt, its answer, and on the next line something that is not asked for."""
    answers = [(number_prompt(i), text) for i, (_, text, _) in enumerate(NUMBERS)]
    answers += [(entity_prompt(i), text) for i, (_, text, *_) in enumerate(ENTITIES)]
    return [f"{prompt} {text}\n77 Bank (ORG)" for prompt, text in answers]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core: what is as small as here only waits for the other, more so where others work there."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def remember(model_folder: Path, target: Path, texts: Sequence[str], steps: int = 80) -> Path:
    """The model of `model_folder`, trained until it goes on as `texts` do, in `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder).train()
    torch.manual_seed(0)
    ids = [[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids] for text in texts]
    width = max(map(len, ids))
    tokens = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in ids])
    targets = torch.tensor([row + [-100] * (width - len(row)) for row in ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    with one_thread():
        for _ in range(steps):
            loss = model(input_ids=tokens, labels=targets).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def lines(path: Path, rows: Sequence[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def domain_folder(folder: Path) -> Path:
    """`domain_rows` as files: one as the hub's repository has it, the others by their names."""
    for name, rows in domain_rows().items():
        if name == "chemprot":
            lines(folder / "ChemProt" / "test.json", rows)
        elif name == "rct":
            (folder / "rct.json").write_text(json.dumps(rows), "utf-8")
        else:
            lines(folder / f"{name}.jsonl", rows)
    return folder


def config(folder: Path, model: Path, **settings: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {"output": str(folder / "out"), "models": {"tiny": str(model)}, "device": "cpu", **settings}
    )


def pair(folder: Path, task: str, model: str = "tiny") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "results" / model / f"{task}.json").read_text("utf-8"))
    return found


def token_log_likelihoods(
    model: Any, tokenizer: Any, context: str, continuation: str, bos: bool = False
) -> list[float]:
    """Of each token of the continuation, one sequence at a time, with nothing shared or cut."""
    import torch

    before = tokenizer(context, add_special_tokens=False).input_ids
    ids = tokenizer(context + continuation, add_special_tokens=False).input_ids
    start = [tokenizer.bos_token_id] if bos else []
    with torch.inference_mode():
        log_probabilities = model(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
    places = range(len(start) + len(before), len(start) + len(ids))
    return [float(log_probabilities[i - 1, (start + ids)[i]]) for i in places]


def log_likelihood(model: Any, tokenizer: Any, context: str, continuation: str, bos: bool = False) -> float:
    return sum(token_log_likelihoods(model, tokenizer, context, continuation, bos))


def load_direct(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
