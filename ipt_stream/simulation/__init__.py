"""A cluster that is not there: a synthesis run's real plan, orders, ledger and watch, its engines in virtual time.

    listing, plan --plan_orders--> orders --Pool--> SimulatedWorker --EngineModel--> segments --LedgerWriter--> ledger
                                                          |
                                                          +--Beat--> Coordinator --look--> Watch, Board

What is real: `orders_at_once`, `plan_orders`, `LedgerWriter`, `read_ledger`, `Tally` and its proof of conservation,
`Coordinator`, `Watch`, `Board` and `storage`, on an fsspec store in memory that counts its requests. Their CPU time is
measured as they run. What is modelled: engines (a rate, a start, a latency), nodes (they are lost, and replaced), the
store's latency, and Ray Data's actor pool (`pool.py`), whose costs `benchmarks/driver.py` measures on real Ray.

The package stands behind `synthesis`, which it drives and which knows nothing of it, and nothing imports it but
`benchmarks/simulate.py`. It is no part of `benchmarks/` so that it is typed, checked for its layer and tested like the
code that it drives: a change there that the simulation would not follow is an error here.
"""
