"""The functions of template.json."""

import json
import os


def greet(event, context):
    """A greeting, to who calls by the URL and to who invokes."""
    name = event.get("queryStringParameters", event).get("name", "you")
    return {"statusCode": 200, "body": json.dumps({"text": f"{os.environ['GREETING']}, {name}!"})}


def count(event, context):
    """How long a text is."""
    return len(event["text"])
