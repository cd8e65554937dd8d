"""Contamination: whether evaluation examples are in what a model is trained on (paper, appendix D, table 9).

    contamination.json     the table, in numbers
    hits.jsonl             every place: document_id, corpus, kind, where, example, offset, pair, matches, share, text
    contaminated.jsonl     {document_id, corpus, example, kind, where}: what a mixture can leave out
    examples.jsonl         the examples that are there, so that scores can be had without them
    results/               what each part of the corpus came to, so that a killed search goes on

Two ways of comparing. By substrings, as the GPT-4 report does (appendix C): spaces and symbols are removed, three
random substrings of 50 characters are drawn of an example, or all of it where it is shorter, and one that is found
counts. By word n-grams: an example counts when enough of its 13-grams are found, anywhere in the corpus; a document
is listed when it holds as many of them itself.

settings    what is searched for, where, and how
examples    files, suites and tasks -> evaluation examples
patterns    examples -> substrings and n-grams, laid out for one pass
search      the pass over one text
corpus      documents with their pairs, in parts
scan        one part -> what is found in it
results     all parts -> the table, and the lists
analyze     the analysis
"""

from ipt_stream.analysis.contamination.analyze import analyze_contamination
from ipt_stream.analysis.contamination.settings import ContaminationSettings

__all__ = ["ContaminationSettings", "analyze_contamination"]
