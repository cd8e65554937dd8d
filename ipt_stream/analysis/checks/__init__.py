"""Checks of every pair without a judge: does the response follow from its text, and is the pair well made?

listing      the checks by name: what each says, which way is better, its threshold
words        texts as checks see them: words, numbers, names (function_words: the small ones, by language)
parts        a pair taken apart, in any of its four formats
grounding    what the text holds of a response
form         what a pair is by itself
language     which script and language a text is in, roughly
pair_checks  all of them, of a pair and of a segment
measure      sums over pairs; yields, precision, recall, areas
repeats      the same pair again across a run: which pairs, and how often
report       what of it the report shows
files        a segment's checks and keys on disk
analyze      the analysis
"""

from ipt_stream.analysis.checks.analyze import ChecksSettings, analyze_checks

__all__ = ["ChecksSettings", "analyze_checks"]
