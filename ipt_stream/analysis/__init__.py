"""Looking at what a run made.

`analyze` runs the analyses that are named, each with settings, a function and a directory of its own, and makes one
report of the parts that they leave; `compare` sets ways of training side by side.
"""
