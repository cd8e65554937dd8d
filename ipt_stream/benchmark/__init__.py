"""Tokens per GPU-day: what a corpus will cost, measured with the real synthesis stage before the money is spent.

    sample         documents of the user's own shards, or made-up texts of a given length         sample, texts
    trial          the stage on the sample, in a process of its own, stopped after a set time      trial
    timeline       what each engine did, twice a second, seen from the engine's own seam           recorder
    result         rates, occupancy, FLOPs, the floor, the price of a corpus                       figures, floor
    sweep          many trials over engine settings; hopeless ones end early                       sweep
    comparison     results side by side, and the settings in which they differ                     compare

Without a model, dummy weights of a real shape do the same work, on any GPU and without a download: `dummy`.
"""
