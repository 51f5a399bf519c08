"""A task in Python: it counts the words of a text."""

import json
import re

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host
from wit_world.imports.types import Content_Json, Failure, Limits, Parameter, Provided, Retryable, TaskInfo, Value

COUNT_WORDS = TaskInfo(
    name="count-words",
    doc="Counts how often each word occurs in a text.",
    requires=[Parameter(name="text", doc="The text.", schema='{"type":"string"}', optional=False)],
    provides=[Provided(name="words", doc="Each word with its number.", schema='{"type":"object"}')],
    rollback=None,
    retry=None,
    limits=Limits(timeout_milliseconds=None, memory_bytes=None),
)


class Guest(exports.Guest):
    """The functions that waft calls: the interface `guest` of the contract."""

    def describe(self):
        return [COUNT_WORDS]

    def apply(self, call, inputs):
        text = json.loads(next(value.content.value for value in inputs if value.name == "text"))
        if not text.strip():
            raise Err(Failure(retryable=Retryable.PERMANENT, message="the text has no words", details=None))
        words = {}
        for word in re.findall(r"\w+", text.lower()):
            words[word] = words.get(word, 0) + 1
        host.log(host.Level.INFO, f"counted {len(words)} different words")
        return [Value(name="words", content=Content_Json(json.dumps(words)))]

    def rollback(self, call, inputs, outcome, failures):
        """Nothing to undo: `describe` names no rollback, so waft does not call it."""
