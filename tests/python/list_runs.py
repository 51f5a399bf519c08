"""Lists the runs of a server, with the client that was generated from its own description.

    list_runs.py FOLDER_OF_THE_CLIENT ADDRESS FLOW
"""

import sys

sys.path.insert(0, sys.argv[1])

from waft_api import Client  # noqa: E402
from waft_api.api.runs import list_runs, show_run, submit_run  # noqa: E402
from waft_api.models import Problem, Run, Runs, Submission  # noqa: E402

client = Client(base_url=sys.argv[2])
refused = submit_run.sync(client=client, body=Submission(flow="nonsense"))
assert isinstance(refused, Problem) and refused.diagnostics[0].message, refused
runs = list_runs.sync(client=client, flow=sys.argv[3], limit=10)
assert isinstance(runs, Runs), runs
for summary in runs.runs:
    run = show_run.sync(summary.run, client=client)
    assert isinstance(run, Run), run
    print(run.run, run.state, *(f"{task.name}={task.state}" for task in run.tasks))
