"""Prints each notification of one task, for all runs of its flow:

    pip install "pika>=1.2"
    WAFT_BROKER=amqp://guest:guest@localhost:5672/%2f python listen.py create-server kick-server

While this program is not running, notifications wait in its queue. Each arrives at least once, and sometimes twice.
"""

import json
import os
import sys

import pika

flow, task = sys.argv[1:3]
queue = f"listen.{flow}-{task}"  # only for this program: programs that share a queue divide its messages


def on_notification(channel, method, properties, body):
    notification = json.loads(body)
    # All copies of a notification have the same key. Store it if a second copy must have no effect.
    once = "/".join(str(notification[key]) for key in ("run", "name", "firing", "attempt", "state"))
    print(once, notification.get("provides") or notification.get("failure") or "", flush=True)
    channel.basic_ack(method.delivery_tag)  # after the work: the broker redelivers a message that is not acknowledged


url = os.environ.get("WAFT_BROKER", "amqp://guest:guest@localhost:5672/%2f")
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
try:
    # The queue that `waft broker setup` has declared for this program: a listener needs no permission but to read it.
    channel.queue_declare(queue, passive=True)
except pika.exceptions.ChannelClosedByBroker:
    # There is none. A user with all permissions, such as guest, may declare and bind one here, even before waft starts.
    channel = connection.channel()
    channel.exchange_declare("waft.notifications", exchange_type="topic", durable=True)
    channel.queue_declare(queue, durable=True)
    # f"{flow}.{task}.*.success" selects only successes.
    channel.queue_bind(queue, "waft.notifications", routing_key=f"{flow}.{task}.#")
channel.basic_qos(prefetch_count=10)
channel.basic_consume(queue, on_notification)
print(f"listens to {flow}.{task}", file=sys.stderr, flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
