"""A small made-up world whose every question has a known answer.

    lexicon   the closed vocabulary: names, trades, towns, lands, beasts, instruments, dishes
    facts     entity i: a person's name and attributes, from (seed, i) alone
    wording   the document about a person: genre, sentences, fillers
    pairs     the question-answer pairs of a document, in all four formats

People are numbered from 0 without end, so a world has any size, needs no index, and its first people stay the same
when it grows. Who is in the shards, in the tuning data or in neither follows from the number too (`facts.Population`).
"""
