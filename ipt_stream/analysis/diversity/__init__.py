"""Diversity of pairs, and what synthesis yields (paper, section 5.2, appendix F's "diversity"; section 3.1).

    diversity.json     all of it, in numbers
    openings.json      how instructions begin, all that were kept
    results/           what each segment came to, so that a killed analysis goes on

settings    what is counted, and with which tokenizer
openings    an instruction -> its first verb and object, or its question word and what it asks for
distinct    texts -> distinct n-grams, exact or estimated, in bounded memory
count       one segment -> its counts
analyze     all segments -> tables and plots
"""

from ipt_stream.analysis.diversity.analyze import analyze_diversity
from ipt_stream.analysis.diversity.settings import DiversitySettings

__all__ = ["DiversitySettings", "analyze_diversity"]
