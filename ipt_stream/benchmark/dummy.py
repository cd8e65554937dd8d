"""Measuring without a model: dummy weights of a real shape, and answers of drawn lengths.

vLLM fills the weights with small random numbers (`load_format: dummy`), which takes as much time a step as any others.
What such a model writes is noise and holds no pairs, but the round loop needs some: the next round's prompt is this
one, its pairs, and a new text. So for each request an answer is drawn, of well-formed pairs; its tokens are as many as
the engine is told to generate (`ignore_eos`, `max_tokens`), and they, not the noise, are what the round loop is given.

Then the next prompt begins with tokens that the engine has never seen, and its cache would be of no use for them, as it
is with a real model. Hence `DummyEngine` keeps, for each answer, which tokens the engine did generate; where a prompt
goes on from that answer, they are put in its place before the engine is asked. Both have the same number of tokens, so
that lengths, cached prefixes and work are those of a real run: outside of the engine pairs are parsed, written and
tokenized as ever, inside each prefix is what it generated itself.

What this can't tell: how often n-gram speculation is right, which depends on the texts; and a GPU draws a little less
power, and may clock higher, than on a trained model's numbers.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from ipt_stream import storage
from ipt_stream.benchmark.settings import DummySettings, ResponseSettings
from ipt_stream.benchmark.texts import draw_pairs, lexicon_size, made_up_words, make_tokenizer
from ipt_stream.draw import seeded
from ipt_stream.errors import ConfigError, EngineError
from ipt_stream.synthesis.engine import EngineConfig, Generation, VllmEngine, request_seed
from ipt_stream.synthesis.parse import parse
from ipt_stream.synthesis.prompt import Shot, format_pairs
from ipt_stream.synthesis.tokens import PromptTokenizer, load_tokenizer

SHAPES = Path(__file__).parent / "shapes"
ANSWERS = 2048
"""Different answers; a document's is chosen by its name."""
KEPT_FACTOR = 4
"""Answers that are remembered, over the chains that are open: the oldest go first."""


def load_shape(name: str) -> dict[str, Any]:
    """The architecture of that name in this package, or that of a Hugging Face `config.json` (YAML will do).

    Raises:
        ConfigError: there is neither.
    """
    known = sorted(path.stem for path in SHAPES.glob("*.yaml"))
    path = SHAPES / f"{name}.yaml" if name in known else Path(name)
    if not path.is_file():
        raise ConfigError(
            f"there is no shape {name}",
            wanted=f"{', '.join(known)}, or a file such as a model's config.json",
            got="no such file",
            fix="correct dummy.shape",
        )
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read", wanted="a model's config.json", got=str(error)) from error
    if not isinstance(found, dict) or "vocab_size" not in found:
        raise ConfigError(f"{path} is no model's configuration", wanted="vocab_size and others", got=str(found)[:80])
    return found


def write_dummy_model(folder: str, shape: dict[str, Any], texts: Sequence[str]) -> None:
    """Write a model folder of `shape` without weights, with a tokenizer for `texts`."""
    tokenizer = make_tokenizer(texts, int(shape["vocab_size"]))
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        Path(scratch, "config.json").write_text(json.dumps({**shape, **ends}, indent=2), encoding="utf-8")
        for file in sorted(Path(scratch).iterdir()):
            storage.publish_file(storage.join(folder, file.name), str(file))


def one_token_words(tokenizer: PromptTokenizer, vocabulary: int) -> list[str]:
    """The made-up words that are one token each behind a space."""
    backend = tokenizer.tokenizer.backend_tokenizer
    words = made_up_words(lexicon_size(vocabulary))
    encoded = backend.encode_batch_fast([f" {word}" for word in words], add_special_tokens=False)
    found = [word for word, encoding in zip(words, encoded, strict=True) if len(encoding.ids) == 1]
    if len(found) < 32:
        raise EngineError(
            "the dummy model's vocabulary is too small", wanted="32 words of one token", got=str(len(found))
        )
    return found


def draw_answers(
    tokenizer: PromptTokenizer, settings: ResponseSettings, most_tokens: int, vocabulary: int, seed: int
) -> list[tuple[int, ...]]:
    """`ANSWERS` answers in tokens, each at most `most_tokens`; parsed and tokenized again they stay what they are.

    Raises:
        EngineError: they don't.
    """
    words = one_token_words(tokenizer, vocabulary)
    before = len(tokenizer.contexts([words[0]])[0])
    found: list[tuple[int, ...]] = []
    for number in range(ANSWERS):
        pairs = draw_pairs(settings, most_tokens, words, seeded(seed, f"answer {number}"))
        ids = tuple(tokenizer.shot(Shot(words[0], pairs))[before:-1])
        if parse(tokenizer.decode(ids)).pairs != pairs or len(ids) > most_tokens:
            raise EngineError(
                "a drawn answer does not come out as it went in",
                wanted=f"{len(pairs)} pairs in at most {most_tokens} tokens (engine.max_new_tokens)",
                got=f"{len(ids)} tokens of {format_pairs(pairs)[:80]!r}",
                fix="raise engine.max_new_tokens, or lower dummy.responses.pair_tokens",
            )
        found.append(ids)
    return found


@dataclass(frozen=True, slots=True)
class DummyWeights:
    """Makes engines with dummy weights, as the stage takes a factory.

    Attributes:
        settings: of the answers.
        vocabulary: the shape's.
    """

    settings: DummySettings
    vocabulary: int

    def __call__(self, config: EngineConfig, gpus: float, eos_token_id: int) -> DummyEngine:
        """Such an engine."""
        return DummyEngine(config, gpus, eos_token_id, self)


class Translation:
    """Which tokens an engine has generated, where the prompts have drawn answers.

    Args:
        bos_token_id: begins each shot.
        eos_token_id: ends each finished one.
        kept: prompts with answers that are remembered.
    """

    def __init__(self, bos_token_id: int, eos_token_id: int, kept: int) -> None:
        self._bos, self._eos, self._kept = bos_token_id, eos_token_id, kept
        self._known: OrderedDict[bytes, array[int]] = OrderedDict()

    def prompt(self, token_ids: list[int]) -> list[int]:
        """`token_ids`, with what the engine generated in place of the answers in it: the same number of tokens.

        All before the last shot is a prompt and its answer of before, and `</s>`. Where that is not known any more, the
        drawn answers stay, and the cache is of no use for them.
        """
        at = len(token_ids) - 1 - token_ids[::-1].index(self._bos)
        made = self._known.get(_key(token_ids[:at])) if at else None
        return token_ids if made is None else [*made, *token_ids[at:]]

    def keep(self, token_ids: list[int], answer: Sequence[int], asked: list[int], made: Sequence[int]) -> None:
        """Remember that for prompt `token_ids`, sent as `asked`, the engine made `made` where `answer` was drawn."""
        self._known[_key([*token_ids, *answer, self._eos])] = array("I", [*asked, *made, self._eos])
        while len(self._known) > self._kept:
            self._known.popitem(last=False)


def _key(token_ids: Sequence[int]) -> bytes:
    return blake2b(array("I", token_ids).tobytes(), digest_size=16).digest()


class DummyEngine(VllmEngine):
    """vLLM's engine on dummy weights, with drawn answers. See the module's docstring."""

    def __init__(self, config: EngineConfig, gpus: float, eos_token_id: int, how: DummyWeights) -> None:
        super().__init__(config, gpus, eos_token_id)
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        tokenizer = load_tokenizer(config.model, config.revision)
        settings = how.settings
        self._answers = draw_answers(
            tokenizer, settings.responses, config.max_new_tokens, how.vocabulary, settings.seed
        )
        self._seed = settings.seed
        bos = tokenizer.contexts(["x"])[0][0]
        self._translation = Translation(bos, eos_token_id, KEPT_FACTOR * config.chains_at_once())
        self._made = partial(
            SamplingParams,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    async def generate(self, request_id: str, token_ids: list[int], priority: int) -> Generation:
        """A drawn answer, after the time that the engine takes to generate as many tokens."""
        place = request_id.rsplit(".", 1)[0]  # a second attempt has the same
        answer = self._answers[request_seed(self._seed, place) % len(self._answers)]
        asked = self._translation.prompt(token_ids)
        output = await self._request(request_id, asked, priority, self._made(max_tokens=len(answer)))
        self._translation.keep(token_ids, answer, asked, output.outputs[0].token_ids)
        return Generation(answer, output.num_cached_tokens or 0)
