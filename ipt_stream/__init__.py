"""ipt-stream: raw shards in, instruction-augmented training data and pre-trained models out.

Instruction Pre-Training (arXiv 2406.14491) trains on raw documents that are each followed by question-answer pairs,
which a smaller model, the instruction synthesizer, writes from the document. This package is that pipeline, as a
system that runs on a cluster and can be killed at any moment:

    stage         module      in                                          out
    tune          tuning      contexts with pairs                         a synthesizer (Hugging Face folder)
    synthesize    synthesis   raw shards, a synthesizer                   segment files, the ledger
    benchmark     benchmark   the same; for some minutes                  tokens per GPU-day, what a corpus will cost
    mix           mixture     segments, raw text, instruction data        packed MDS sources, plan, training order
    pretrain      training    a mixture                                   a model (Hugging Face folder)
    evaluate      evaluation  models, tasks                               a table of scores
    analyze       analysis    any of the above                            figures, tables, a report for a browser

The package is laid out in the order in which data flows; no module imports one that comes later. Effects live at few
seams: `storage` (files), `synthesis.engine` (vLLM), `synthesis.pipeline` (Ray Data), `training.fit` (Composer), the
clock and the log. What is between them is pure functions over frozen records, with a seed as an argument.

One document on its way:

    Document        a row of a shard, named `shard:row`                                            corpus.document
    chain, round    its place among those of its segment: M documents build on each other         synthesis.chain
    prompt          finished shots of the rounds before it, then its text, in tokens              synthesis.tokens
    pairs           what the engine wrote, parsed; what is dropped is counted by reason           synthesis.parse
    SegmentRow      all of that, published with its segment, recorded in the ledger               synthesis.segment
    Example         the shots that inherit from each other; the rest stays raw                    synthesis.results
    text            the example through a template, chosen by its id and the seed                 mixture.render
    sequence        texts joined by EOS, cut to a fixed length, in an MDS shard                   mixture.pack
    place in order  when training sees the sequence: even in every prefix, whatever the ranks     mixture.order
"""
