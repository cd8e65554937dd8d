"""The domains of texts: what they are called, what a judge is asked, and a small classifier that takes a judge's place.

The names are those of the paper's table 12. A text may have several.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from ipt_stream import storage
from ipt_stream.analysis.intervals import Estimate, share
from ipt_stream.analysis.judging.asking import Question, json_object
from ipt_stream.analysis.quality.prompts import DATA_RULE, data_parts
from ipt_stream.config import Settings
from ipt_stream.corpus.pair import Pair
from ipt_stream.corpus.selection import is_selected
from ipt_stream.errors import InputError

DOMAINS = {
    "encyclopedia": "facts on a subject as a reference work tells them",
    "fiction": "stories, novels, fairy tales, plays",
    "academic tests": "exam questions, exercises, teaching material for school or university",
    "trivia": "quiz questions and curiosities",
    "news": "reports on current events",
    "expert materials": "papers, manuals, laws, medicine, finance, engineering: written by professionals",
    "social media": "posts, comments, forums, reviews, personal blogs",
    "code": "programs, and text about programming",
}
"""The eight of table 12, each with what it means."""


class ClassifierSettings(Settings):
    """A small classifier, trained from lines of text that have a domain."""

    labelled: str
    """JSON lines; a file, a glob or a directory."""
    text_key: str = "text"
    """The key of the text in a line..."""
    label_key: str = "label"
    """... and that of its domain. The domains are all that occur there."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Share of the lines that it is tested on and not trained on, by a hash of their text."""
    threshold: float = Field(0.3, gt=0, le=1)
    """A text has the likeliest domain, and every other one of at least this probability."""
    features: int = Field(2**18, ge=2)
    """Numbers that words and pairs of neighbouring words are hashed to."""
    penalty: float = Field(1e-6, gt=0)
    """How strongly weights are held down (scikit-learn's alpha)."""
    passes: int = Field(20, ge=1)
    """How often all lines are gone through."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """What was trained.

    Attributes:
        domains: all labels, in the order of the alphabet.
        trained: lines that it was trained on.
        accuracy: on those held out, the likeliest domain alone.
        threshold: of further domains.
        vectorizer: scikit-learn's, texts to hashed counts.
        model: scikit-learn's, counts to probabilities.
    """

    domains: tuple[str, ...]
    trained: int
    accuracy: Estimate
    threshold: float
    vectorizer: Any
    model: Any

    def label(self, texts: Sequence[str]) -> list[frozenset[str]]:
        """The domains of each text, at least one."""
        if not texts:
            return []
        found = []
        for row in self.model.predict_proba(self.vectorizer.transform(texts)):  # (texts, domains)
            best = max(range(len(row)), key=row.__getitem__)
            found.append(frozenset(self.domains[i] for i in range(len(row)) if i == best or row[i] >= self.threshold))
        return found


def read_labelled(settings: ClassifierSettings) -> list[tuple[str, str]]:
    """The labelled lines, text and domain. Raises `InputError`, naming file and line, on one of another form."""
    found = []
    for path in storage.expand([settings.labelled]):
        for number, line in enumerate(storage.read_bytes(path).splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                text, label = row[settings.text_key], row[settings.label_key]
            except (ValueError, KeyError, TypeError) as error:
                raise _malformed(path, number, settings, str(error)) from error
            if not isinstance(text, str) or not isinstance(label, str) or not label.strip():
                raise _malformed(path, number, settings, "a value that is no text")
            found.append((text, label.strip()))
    return found


def train_classifier(settings: ClassifierSettings, labelled: Sequence[tuple[str, str]], seed: int) -> Classifier:
    """A logistic regression, one domain against the others, over hashed words and pairs of words, by gradient descent
    line by line (10,000 lines of 100 words in 16 domains: some 10 s); and how often it is right on what was held out.

    Raises:
        InputError: there are fewer than two domains, or a domain has no line to train on or none is left to test on.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    train: list[tuple[str, str]] = []
    test: list[tuple[str, str]] = []
    for text, label in labelled:
        name = hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()
        (test if is_selected(seed, f"domains:{name}", settings.held_out) else train).append((text, label))
    domains = tuple(sorted({label for _, label in labelled}))
    if len(domains) < 2 or not test or len({label for _, label in train}) < len(domains):
        raise InputError(
            f"{settings.labelled} can't train a classifier",
            wanted="lines of at least two domains, some of each to train on and some to test on",
            got=f"{len(labelled):,} lines of {len(domains)} domains, {len(test):,} held out",
            fix="label more lines, or change held_out",
        )
    vectorizer = HashingVectorizer(n_features=settings.features, ngram_range=(1, 2), alternate_sign=False)
    model = SGDClassifier(
        loss="log_loss", alpha=settings.penalty, max_iter=settings.passes, tol=None, random_state=seed
    )
    model.fit(vectorizer.transform([text for text, _ in train]), [label for _, label in train])
    guessed = model.predict(vectorizer.transform([text for text, _ in test]))
    right = sum(one == label for one, (_, label) in zip(guessed, test, strict=True))
    order = tuple(str(label) for label in model.classes_)
    return Classifier(order, len(train), share(int(right), len(test)), settings.threshold, vectorizer, model)


def pair_text(pair: Pair) -> str:
    """A pair as the classifier sees it."""
    return f"{pair.instruction}\n{pair.response}"


def text_question(text: str, domains: Mapping[str, str]) -> Question:
    """What a judge is asked of a text."""
    return _question("a text", data_parts({"TEXT": text}), domains)


def pair_question(pair: Pair, domains: Mapping[str, str]) -> Question:
    """What a judge is asked of a pair: of the pair alone, so that the text does not decide for it."""
    parts = data_parts({"INSTRUCTION": pair.instruction, "RESPONSE": pair.response})
    return _question("an instruction and its response, without the text that they were made from", parts, domains)


def read_domains(question: Question, answer: str) -> frozenset[str] | None:
    """The domains that an answer says; None where it is not the JSON that was asked for, or says none."""
    found = json_object(answer)
    names = question.schema["required"]
    if found is None or not all(isinstance(found.get(name), bool) for name in names):
        return None
    return frozenset(name for name in names if found[name]) or None


def _question(what: str, data: str, domains: Mapping[str, str]) -> Question:
    described = "\n".join(f"- {name}: {meaning}" for name, meaning in domains.items())
    system = (
        f"You sort writing by the domain that it comes from or is about. You are shown {what}.\n\n{DATA_RULE}\n\n"
        f"The domains:\n{described}\n\n"
        "Reply with one JSON object that says true or false for each domain. Most have one domain, some have several; "
        "at least one is true: where none fits well, the nearest."
    )
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in domains},
        "required": list(domains),
        "additionalProperties": False,
    }
    return Question(system, data, schema)


def _malformed(path: str, line: int, settings: ClassifierSettings, got: str) -> InputError:
    wanted = f'{{"{settings.text_key}": ..., "{settings.label_key}": ...}}'
    return InputError(f"{path}, line {line} is no labelled text", wanted=wanted, got=got, fix="mend or remove it")
