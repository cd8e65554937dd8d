"""The synthesizer's own tokenizer: nothing lost, nothing added, and one token for what the model has to copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt_stream.auto_tokenizer import auto_tokenizer
from ipt_stream.corpus.world import lexicon
from ipt_stream.corpus.world.facts import Population, World
from ipt_stream.corpus.world.pairs import pairs_for
from ipt_stream.corpus.world.wording import document_text
from ipt_stream.errors import ConfigError
from ipt_stream.synthesis.prompt import BOS, EOS, Shot, format_context, format_shot
from ipt_stream.tuning.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1_344


def shots(count: int) -> list[str]:
    world = World(0)
    indices = [Population.TUNING.index(position) for position in range(count)]
    return [format_shot(Shot(document_text(world, index), pairs_for(world, index))) for index in indices]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(shots(2_000), VOCABULARY)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


def test_every_name_and_value_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    pools = (lexicon.GIVEN, lexicon.FAMILY, lexicon.TOWNS, lexicon.LANDS, lexicon.TRADES)
    words = [w for pool in (*pools, lexicon.BEASTS, lexicon.INSTRUMENTS, lexicon.DISHES) for w in pool]
    assert [word for word in words if len(ids(tokenizer, " " + word)) != 1] == []
    assert len(tokenizer) <= VOCABULARY


def test_markers_are_plain_text_of_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "<s> <CON> The </CON>\n\n<QUE> The <ANS> The </END></s>"
    tokens = tokenizer.convert_ids_to_tokens(ids(tokenizer, text))
    assert [t.replace("Ġ", " ").replace("Ċ", "\n") for t in tokens] == [
        *("<s>", " <CON>", " The", " </CON>", "\n\n", "<QUE>", " The", " <ANS>", " The", " </END>", "</s>")
    ]
    assert set(tokenizer.all_special_tokens) == {BOS, EOS}


def test_nothing_is_added_and_the_ends_have_their_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("a").input_ids == ids(tokenizer, "a")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 1)
    assert ids(tokenizer, f"{BOS}{EOS}") == [0, 1]


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    tokenizer = _shared()
    plain = text.replace(BOS, "").replace(EOS, "")
    assert tokenizer.decode(ids(tokenizer, plain), skip_special_tokens=False) == plain


def test_a_shot_of_the_world_is_short_and_three_fit_in_1024_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    lengths = [len(ids(tokenizer, shot)) for shot in shots(500)]
    assert 3 * max(lengths) <= 1_024
    assert all(tokenizer.decode(ids(tokenizer, shot)) == shot for shot in shots(20))


def test_the_prompt_is_the_sum_of_its_shots(tokenizer: PreTrainedTokenizerFast) -> None:
    first, second = shots(2)
    context = format_context("A new text.")
    whole = ids(tokenizer, first + second + context)
    assert whole == ids(tokenizer, first) + ids(tokenizer, second) + ids(tokenizer, context)
    assert whole.count(0) == 3


def test_same_texts_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    again = train_tokenizer(iter(shots(2_000)), VOCABULARY)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_a_saved_folder_is_loaded_by_auto_tokenizer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = format_context("Ñandú, 東京 and\n\ttabs  12345") + shots(1)[0]
    assert loaded(text).input_ids == ids(tokenizer, text)
    assert loaded.decode(loaded(text).input_ids) == text
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == (BOS, EOS, EOS)


def test_a_vocabulary_without_room_for_all_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 258"):
        train_tokenizer(["a"], 100)


_cache: list[PreTrainedTokenizerFast] = []


def _shared() -> PreTrainedTokenizerFast:
    """Hypothesis tests can't take module fixtures by argument and stay fast; one small tokenizer serves them."""
    if not _cache:
        _cache.append(train_tokenizer(shots(50), 600))
    return _cache[0]


LOOK = """
import sys
from ipt_stream.auto_tokenizer import auto_tokenizer
tokenizer = auto_tokenizer(sys.argv[1])
print(type(tokenizer).__name__, "torch" in sys.modules, tokenizer("<s> <CON> a miller")["input_ids"])
"""


def test_a_folders_tokenizer_is_the_one_that_transformers_chooses_and_needs_no_torch(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    chosen, own = AutoTokenizer.from_pretrained(tmp_path), auto_tokenizer(str(tmp_path))
    assert type(own) is type(chosen)
    assert own.init_kwargs == chosen.init_kwargs
    assert own.backend_tokenizer.to_str() == chosen.backend_tokenizer.to_str()
    done = subprocess.run([sys.executable, "-c", LOOK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{type(chosen).__name__} False {chosen('<s> <CON> a miller')['input_ids']}\n"


@pytest.mark.parametrize(
    ("changes", "file"), [({"tokenizer_class": "LlamaTokenizer"}, None), ({"auto_map": {}}, None), ({}, "tekken.json")]
)
def test_where_another_class_could_be_meant_transformers_chooses(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, changes: Any, file: str | None
) -> None:
    from transformers import AutoTokenizer

    asked: list[str] = []
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda path, **_: asked.append(path))
    tokenizer.save_pretrained(tmp_path)
    auto_tokenizer(str(tmp_path))
    assert asked == []
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **changes}))
    if file:
        (tmp_path / file).write_text("{}")
    auto_tokenizer(str(tmp_path))
    assert asked == [str(tmp_path)]
    (tmp_path / "tokenizer.json").unlink()
    auto_tokenizer(str(tmp_path))
    assert len(asked) == 2
