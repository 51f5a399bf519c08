"""Hears what becomes of one task, in every run of its flow:

    pip install "pika>=1.2"
    WAFT_BROKER=amqp://guest:guest@localhost:5672/%2f python listen.py create-server kick-server

What happens while this program is away waits in its queue. Each notification comes at least once, and now and then twice.
"""

import json
import os
import sys

import pika

flow, task = sys.argv[1:3]
exchange = f"waft.task.{flow}.{task}"
queue = f"listen.{flow}.{task}"  # its own: programs that share a queue share the notifications


def hear(channel, method, properties, body):
    notification = json.loads(body)
    # The same in every copy of one notification: keep it where a second copy must do nothing.
    once = "/".join(str(notification[key]) for key in ("run", "name", "firing", "attempt", "state"))
    print(once, notification.get("provides") or notification.get("failure") or "", flush=True)
    channel.basic_ack(method.delivery_tag)  # only now: what is not acknowledged comes again


url = os.environ.get("WAFT_BROKER", "amqp://guest:guest@localhost:5672/%2f")
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()

# As waft declares them, so that it does not matter who comes first.
channel.exchange_declare("waft.notifications", exchange_type="topic", durable=True)
channel.exchange_declare(exchange, exchange_type="topic", durable=True)
channel.exchange_bind(destination=exchange, source="waft.notifications", routing_key=f"{flow}.{task}.#")

channel.queue_declare(queue, durable=True)
channel.queue_bind(queue, exchange, routing_key="#")  # "*.*.*.success" hears of successes alone
channel.basic_qos(prefetch_count=10)
channel.basic_consume(queue, hear)
print(f"listens to {flow}.{task}", file=sys.stderr, flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
