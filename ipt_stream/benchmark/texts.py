"""Made-up texts and answers, and the tokenizer that goes with them: nothing that has to be fetched.

Words are of syllables, each one token with the space before it, so that a text has the length that was drawn. A word's
frequency falls with its rank, as in any language; what the words are makes no difference to an engine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ipt_stream.benchmark.settings import ResponseSettings, TextSettings
from ipt_stream.corpus.pair import Pair
from ipt_stream.draw import seeded
from ipt_stream.synthesis.prompt import BOS, EOS, Shot, format_shot
from ipt_stream.synthesis.words import WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MOST_TRAINED = 32_000
"""Tokens that are learned at most; a shape's vocabulary may be larger than its tokenizer's."""
TRAINING_CHARACTERS = 4 * 2**20
PAIR_MARKERS = 4
"""Tokens of a pair that are no words: the three markers, and the blank line before it or the end after the last."""
LEAST_PAIR = 8
SENTENCE_WORDS = 12
_STARTS = [*"bcdfghklmnprstvwz", "st", "tr", "br", "pl", "gr"]
_ENDS = [*"aeiou", "an", "en", "or", "il", "us", "am", "et"]


def made_up_words(number: int) -> list[str]:
    """So many different words of two to four syllables, always the same."""
    rng, found = seeded(0, "words"), dict[str, None]()
    while len(found) < number:
        syllables = 2 + int(rng.random() * 3)
        found["".join(_STARTS[int(rng.random() * len(_STARTS))] + _ENDS[int(rng.random() * len(_ENDS))]
                      for _ in range(syllables))] = None  # fmt: skip
    return list(found)


def lexicon_size(vocabulary: int) -> int:
    """Words that a vocabulary has room for as one token each, with the parts that they are merged from."""
    return max(64, min(6000, (vocabulary - 258) // 4))


def make_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocabulary` tokens that writes the synthesizer's format: learned from the made-up
    words, and from the beginning of `texts`.

    Args:
        texts: what it will be given, so that it needs about as many tokens for it as a real one.
        vocabulary: the shape's.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, MOST_TRAINED),
        special_tokens=[AddedToken(marker, normalized=False, special=True) for marker in (BOS, EOS)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = " " + " ".join(made_up_words(lexicon_size(vocabulary)))
    marked = format_shot(Shot("x", (Pair("x", "x"), Pair("x", "x")))).removeprefix(BOS).removesuffix(EOS)
    common = len(words) // 8  # what is frequent is merged first: the made-up words are, and the markers
    made.train_from_iterator([*[words] * 50, *[marked] * max(common, 1000), *_some(texts)], trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _some(texts: Iterable[str]) -> Iterator[str]:
    characters = 0
    for text in texts:
        yield text
        characters += len(text)
        if characters > TRAINING_CHARACTERS:
            return


def draw_texts(settings: TextSettings, number: int, words: Sequence[str], seed: int) -> Iterator[str]:
    """`number` texts of log-normal length in tokens, where each of `words` is one token and so is a full stop."""
    import numpy

    rng = numpy.random.default_rng([seed, 1])
    lengths = _log_normal(rng.standard_normal(number), settings.mean_tokens, settings.spread)
    weights = 1.0 / (numpy.arange(len(words)) + 10.0)
    edges = numpy.cumsum(weights / weights.sum())
    for length in lengths:
        tokens = max(2, min(round(length), settings.most_tokens))
        stops = max(1, round(tokens / (SENTENCE_WORDS + 1)))
        chosen = numpy.minimum(numpy.searchsorted(edges, rng.random(max(tokens - stops, 1))), len(words) - 1)
        drawn = [words[index] for index in chosen]
        step = max(1, len(drawn) // stops)
        yield ". ".join(" ".join(drawn[at : at + step]) for at in range(0, len(drawn), step)) + "."


def draw_pairs(
    settings: ResponseSettings, most_tokens: int, words: Sequence[str], rng: random.Random
) -> tuple[Pair, ...]:
    """The pairs of one answer, of at most `most_tokens`, each instruction another one."""
    number, threshold, product = 1, math.exp(-(settings.pairs - 1)), rng.random()
    while product > threshold:  # a Poisson number, by Knuth's method
        number, product = number + 1, product * rng.random()
    pairs: list[Pair] = []
    left = most_tokens - 1  # the end of the answer
    for at in range(number):
        length = round(float(_log_normal(rng.gauss(0.0, 1.0), settings.pair_tokens, settings.spread)))
        length = max(length, LEAST_PAIR)
        if length > left:
            if pairs:
                break
            length = max(left, LEAST_PAIR)
        left -= length
        count = length - PAIR_MARKERS
        asked = max(1, min(count - 1, round(0.4 * count)))
        # The first word tells the instructions of an answer apart: no pair is dropped as another's double.
        first = words[(int(rng.random() * 2**32) * number + at) % len(words)]
        question = [first, *(words[int(rng.random() * len(words))] for _ in range(asked - 1))]
        if any(" ".join(question) == pair.instruction for pair in pairs):
            continue
        answer = [words[int(rng.random() * len(words))] for _ in range(count - asked)]
        pairs.append(Pair(" ".join(question), " ".join(answer)))
    return tuple(pairs)


def _log_normal(standard: Any, mean: float, spread: float) -> Any:
    """Log-normal numbers of that mean from standard normal ones: exp(mu + spread z), mu = ln(mean) - spread^2 / 2."""
    import numpy

    return numpy.exp(numpy.log(mean) - spread**2 / 2 + spread * standard)
