"""Task categories of instruction-response pairs, and the scenarios that they are grouped into (paper, section 5.2).

The categories are those of Super-NaturalInstructions (Wang et al. 2022), 76 with `Misc.`; the paper's table 6 counts
how many of them occur. The paper groups them into nine general scenarios and shows these in figure 6 alone, as a
picture: the nine here are a grouping of this project's own, a category in exactly one of them.
"""

from __future__ import annotations

from enum import StrEnum


class Scenario(StrEnum):
    """The general scenarios of tasks."""

    QUESTION_ANSWERING = "question answering"
    REASONING = "reasoning"
    INFERENCE = "inference and verification"
    CLASSIFICATION = "classification"
    EXTRACTION = "information extraction"
    REWRITING = "summarization and rewriting"
    GENERATION = "generation"
    DIALOGUE = "dialogue"
    LANGUAGE = "language and code"


_GROUPS: dict[Scenario, tuple[str, ...]] = {
    Scenario.QUESTION_ANSWERING: (
        "Question Answering", "Answer Verification", "Answerability Classification", "Fill in The Blank",
        "Question Decomposition", "Question Understanding",
    ),
    Scenario.REASONING: (
        "Cause Effect Classification", "Commonsense Classification", "Explanation", "Mathematics", "Number Conversion",
        "Program Execution", "Sentence Ordering", "Word Analogy",
    ),
    Scenario.INFERENCE: (
        "Coherence Classification", "Discourse Relation Classification", "Fact Verification", "Paper Review",
        "Text Matching", "Text Quality Evaluation", "Textual Entailment",
    ),
    Scenario.CLASSIFICATION: (
        "Ethics Classification", "Gender Classification", "Intent Identification", "Irony Detection",
        "Language Identification", "Section Classification", "Sentiment Analysis", "Spam Classification",
        "Stance Detection", "Stereotype Detection", "Text Categorization", "Toxic Language Detection",
    ),
    Scenario.EXTRACTION: (
        "Coreference Resolution", "Discourse Connective Identification", "Entity Relation Classification",
        "Information Extraction", "Keyword Tagging", "Named Entity Recognition", "Overlap Extraction",
    ),
    Scenario.REWRITING: (
        "Grammar Error Correction", "Paraphrasing", "Question Rewriting", "Sentence Compression",
        "Sentence Perturbation", "Style Transfer", "Summarization", "Text Simplification", "Title Generation",
        "Translation",
    ),
    Scenario.GENERATION: (
        "Data to Text", "Entity Generation", "Poem Generation", "Question Generation", "Sentence Composition",
        "Sentence Expansion", "Story Composition", "Text Completion", "Wrong Candidate Generation",
    ),
    Scenario.DIALOGUE: (
        "Dialogue Act Recognition", "Dialogue Generation", "Dialogue State Tracking", "Negotiation Strategy Detection",
        "Speaker Identification", "Speaker Relation Classification",
    ),
    Scenario.LANGUAGE: (
        "Code to Text", "Grammar Error Detection", "Linguistic Probing", "Misc.", "Pos Tagging",
        "Preposition Prediction", "Punctuation Error Detection", "Spelling Error Detection", "Text to Code",
        "Word Relation Classification", "Word Semantics",
    ),
}  # fmt: skip
SCENARIO_OF: dict[str, Scenario] = {name: scenario for scenario, names in _GROUPS.items() for name in names}
"""The scenario of each category."""
CATEGORIES = tuple(sorted(SCENARIO_OF))
"""All categories, in the order of the alphabet."""
_BY_FOLDED = {name.casefold(): name for name in CATEGORIES}


def category_named(text: str) -> str | None:
    """The category of that name, ignoring case and space around it; None where there is none."""
    return _BY_FOLDED.get(" ".join(text.split()).casefold())
