"""A function as AWS Lambda runs it.

    cleave deploy . --name hello
    cleave invoke hello -d '{"name": "world"}'
    cleave logs hello

What stands at module level is the init phase: it runs once a sandbox, before the first event. handler() runs once an
event. /tmp can be written to, the folder of this file cannot. There is no network unless the function is deployed with
--egress internet.
"""

import os

GREETING = os.environ.get("GREETING", "Hello")  # cleave deploy . --name hello --env GREETING=Ahoy


def handler(event, context):
    """Return something that JSON can hold; raise, and the caller gets AWS's error document."""
    name = event.get("name", "world")
    print(f"greeting {name}, {context.get_remaining_time_in_millis()} ms left")
    return {"message": f"{GREETING}, {name}!", "request_id": context.aws_request_id}
