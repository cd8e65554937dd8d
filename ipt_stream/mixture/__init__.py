"""From segments, raw documents and instruction data to what training streams, and in which order.

presets    the paper's mixtures by name
sources    units of work, in the order of the data
keep       which pairs and documents of a synthesis run stay, by checks and by lists
keeping    what that means for each source, and how it is told
render     an example as text, in one of many styles (words in `templates`)
encode     units -> tokens, on any number of cores
pack       tokens -> sequences of one length, end to end or best fit
mds        sequences -> a directory of shards, whole or not at all (closed by the threads of `shard_writer`)
estimate   what a source will hold, about, before it is made
shares     how much of each source -> sequences of each
curves     when in training they come -> targets at every moment
plan       the result, as a file and as a table
order      the plan -> which sequence comes when
mix        the stage that does all of it
"""
