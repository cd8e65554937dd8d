"""`ipt-stream benchmark` as a Ray job.

ray job submit --runtime-env jobs/runtime_env.yaml -- python jobs/benchmark.py CONFIG.yaml [dotted.key=value ...]
"""

import sys

from ipt_stream.cli import job

if __name__ == "__main__":
    sys.exit(job("benchmark"))
