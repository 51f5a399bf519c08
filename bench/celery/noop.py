"""The baseline of `defaults`: a task that does nothing, in Celery as it comes."""

import os
import sys
import time

from celery import Celery, group

app = Celery("noop", broker=os.environ["CELERY_BROKER"], backend="rpc://")
app.conf.task_default_queue = os.environ["CELERY_QUEUE"]


@app.task(name="noop")
def noop():
    return None


if __name__ == "__main__":
    # One line on standard input is the number of tasks of a round; one line on standard output is how long it took.
    for line in sys.stdin:
        begun = time.perf_counter()
        group(noop.s() for _ in range(int(line))).apply_async().get(timeout=300, disable_sync_subtasks=False)
        print(time.perf_counter() - begun, flush=True)
