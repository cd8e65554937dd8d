"""Pairs mined from the raw text by patterns: the rule-based baseline, after AdaptLLM's idea (arXiv 2309.09530).

    sentences   a text's paragraphs and sentences, of a bounded part of it
    passage     which of them can be used, and the title
    keywords    which words are typical of the domain: counts over a sample of the corpus
    phrases     the connectives that are looked for, and the words in which is asked
    causes      a sentence that names a cause, split into cause and effect
    patterns    one finder a task: from a passage to candidates
    mining      `mine`: which candidates become the pairs of a document

    >>> keywords = Keywords.of(sample)  # or parts of it, one process each, merged
    >>> mine(text, keywords, seed=0, document_id="shard:0")
    (Pair(instruction="...", response="..."), ...)

The result is pairs like a synthesizer's, which `mixture.render` turns into text. No model is asked, so a pair knows no
more than its text: the response is a part of it, or a label that a connective gives away. A core does some 300
documents a second. An example of each task, from texts about a mill:

    summary      Give the text a title.
                 -> The Old Mill at Harrow
    words        Write a sentence with these words: millstone, sluice, flour
                 -> The sluice drove the millstone that ground the flour.
    inference    Premise: The river rose in the night.  Hypothesis: The mill stood still.
                 Does the second follow from the first?  Options: Entailment, Contradiction, Neutral
                 -> Contradiction                              (The river rose in the night. However, the mill ...)
    cause        Why is this, according to the text?  The bridge was closed.
                 -> Because the river had risen.               (The bridge was closed because the river had risen.)
    paraphrase   Put this in other words: The mill ran at a loss.
                 -> It cost more than it earned.               (... In other words, it cost more than it earned.)
    comparison   Do these two say something alike, or do they differ?  The miller ...  The baker ...
                 -> Alike                                      (The miller rose early. Likewise, the baker ...)
    completion   Complete this passage: The wheel was mended in spring. It turned until the autumn.
                 -> Then the frost came, and ...               (the rest of that paragraph)

Connectives are English ones; texts in other languages yield summary, words and completion.
"""
