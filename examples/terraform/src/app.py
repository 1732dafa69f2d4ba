"""The function of main.tf."""

import json
import os


def handler(event, context):
    """A greeting, to who calls by the URL and to who invokes."""
    name = event.get("queryStringParameters", event).get("name", "you")
    return {"statusCode": 200, "body": json.dumps({"text": f"{os.environ['GREETING']}, {name}!"})}
