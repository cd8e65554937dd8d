"""`ipt-stream pretrain` as a Ray job; with `workers=N` each of N workers is a rank of one training, by Ray Train.

ray job submit --runtime-env jobs/runtime_env.yaml -- python jobs/pretrain.py CONFIG.yaml [dotted.key=value ...]
"""

import sys

from ipt_stream.cli import job

if __name__ == "__main__":
    sys.exit(job("pretrain"))
