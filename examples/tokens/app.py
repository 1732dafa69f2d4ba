"""A stream of tokens, as a language model makes them: server-sent events, each with the client when it is made.

    cleave deploy . --name tokens --timeout 60
    cleave invoke tokens --stream -d '{"prompt": "the lazy dog"}'

A handler that yields is streamed; nothing else is needed. A client that leaves stops it at its `yield`, so that no
token is made for nobody. `words` stands for the model.
"""

import json
import random
import time


def handler(event, context):
    """Yield `max_tokens` tokens, one each `delay_ms`, then the usage, then [DONE]."""
    prompt = event.get("prompt", "")
    made = 0
    for word in words(prompt, event.get("max_tokens", 32)):
        made += 1
        time.sleep(event.get("delay_ms", 30) / 1000)
        yield sse({"token": word})
    yield sse({"usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": made}})
    yield "data: [DONE]\n\n"


def sse(value):
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def words(prompt, count):
    """The same for the same prompt."""
    vocabulary = prompt.split() or ["hello"]
    source = random.Random(prompt)
    return (source.choice(vocabulary) + " " for _ in range(count))
