"""Pushes a module, submits a flow, completes the task that waits, and reads the run's events to the end.

    waft serve &
    python bake.py examples-wasm/target/wasm32-wasip1/release/kitchen.wasm

It needs only Python 3.9 and its standard library. WAFT_SERVER is the address of the server, WAFT_TOKEN its token.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

SERVER = os.environ.get("WAFT_SERVER", "http://127.0.0.1:7468")
TOKEN = os.environ.get("WAFT_TOKEN")

FLOW = """
name = "bake-one"

[modules]
kitchen = "kitchen"

[[task]]
name = "order"
wait = "an order"
provides = ["batter_ml"]

[[task]]
name = "pan"
use = "kitchen#choose-pan"
"""


def request(method, path, body=None, content_type="application/json", headers=None):
    """Sends one request and returns the open response. For an error response, it raises its title, detail and hint."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    asked = urllib.request.Request(SERVER + path, data=data, method=method, headers=headers or {})
    if data is not None:
        asked.add_header("Content-Type", content_type)
    if TOKEN:
        asked.add_header("Authorization", f"Bearer {TOKEN}")
    try:
        return urllib.request.urlopen(asked, timeout=60)
    except urllib.error.HTTPError as error:
        problem = json.loads(error.read())
        raise SystemExit(f"{problem['title']}: {problem.get('detail', '')} {problem.get('hint', '')}") from error


def push(path, tag):
    """Stores a module under a tag. The same bytes have the same digest, so this may be repeated."""
    with open(path, "rb") as file:
        with request("POST", f"/v1/modules?tag={tag}", file.read(), "application/wasm") as response:
            return json.load(response)["digest"]


def submit(flow, run):
    """Starts a run. It may be repeated with the same run id and the same content: the run starts once."""
    with request("POST", "/v1/runs", {"flow": flow, "run": run}) as response:
        return json.load(response)["run"]


def notify(run, task, values, key):
    """Completes a task that waits. It may be repeated with the same key: it counts once."""
    request("POST", f"/v1/runs/{run}/notify", {"task": task, "values": values, "key": key}).close()


def events(run):
    """Yields the events of the run from its start to its end. It connects again after a lost connection."""
    last = None
    while True:
        try:
            with request("GET", f"/v1/runs/{run}/events", headers={"Last-Event-ID": last} if last else {}) as stream:
                for line in stream:
                    name, _, text = line.decode().rstrip("\n").partition(":")
                    if name == "id":
                        last = text.strip()
                    elif name == "data":
                        event = json.loads(text)
                        yield event
                        if event["event"] == "run" and event["state"] in ("success", "failure", "rolled-back"):
                            return
        except OSError as error:  # the connection was lost: continue after the last event
            print(f"{error}; trying again", file=sys.stderr)
        time.sleep(1)


def main():
    print("pushed", push(sys.argv[1], "kitchen"))
    run = submit(FLOW, f"bake-{time.time_ns()}")
    print("submitted", run)
    for event in events(run):
        print(event.get("name", run), event["state"])
        if event.get("name") == "order" and event["state"] == "running":
            notify(run, "order", {"batter_ml": 900}, key=f"{run}-order")
        if event["event"] == "run" and "provides" in event:
            print("pan:", event["provides"]["pan"])


main()
