"""A large download that is streamed while it is made: a gigabyte, of which a megabyte at most is in memory.

    cleave deploy . --name download --memory 256 --timeout 300
    cleave invoke download --raw --stream -d '{"mb": 1024}' > large.csv
    cleave urls create download --mode stream

The last line says where it is: then `curl -OJ 'URL/?mb=1024'` saves it. An engine streams 200 MB at most by default, as
Lambda does: `cleave serve --stream-limit-mb 1100` lets a gigabyte through. A client that leaves ends it.
"""

import json

ROWS_PER_MB = 2**20 // 64
"""A row has 64 bytes: its number, a text, and what is missing."""


def handler(event, context):
    """Yield so many megabytes of CSV, `{"mb": …}` or `?mb=…` behind a URL, where a head comes first."""
    query = event.get("queryStringParameters", {})
    mb = int(query.get("mb", event.get("mb", 1)))
    if "requestContext" in event:
        headers = {"content-type": "text/csv", "content-disposition": 'attachment; filename="large.csv"'}
        # The head of an HTTP answer, and the eight bytes behind which its body begins.
        yield json.dumps({"statusCode": 200, "headers": headers}).encode() + bytes(8)
    for number in range(mb):
        yield megabyte(number)


def megabyte(number):
    """One of them: 16,384 rows, numbered through."""
    first = number * ROWS_PER_MB
    rows = range(first, first + ROWS_PER_MB)
    return "".join([f"{row:010},a row of a table that is never whole anywhere,------\n" for row in rows]).encode()
