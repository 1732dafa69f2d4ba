"""A REST API behind a function URL, over SQLite: items are added, listed, read, changed and removed, as JSON.

    cleave deploy . --name store
    cleave invoke store -d '{"rawPath": "/items", "requestContext": {"http": {"method": "GET"}}}'
    cleave urls create store

The last line says where it is: then `curl -d '{"name": "tea", "count": 3}' URL/items` adds one. The database is in
/tmp: it lasts as long as its sandbox, and two that run at a time have one each, unless `cleave concurrency reserve
store 1` lets there be one only. What has to last belongs into a database of its own.
"""

import json
import sqlite3

database = sqlite3.connect("/tmp/items.db", isolation_level=None)
database.row_factory = sqlite3.Row
database.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, count INTEGER)")


def handler(event, context):
    """A request as function URLs and API Gateway send it (payload format 2.0)."""
    collection, *rest = event["rawPath"].strip("/").split("/")
    if collection != "items" or len(rest) > 1 or not all(part.isdecimal() for part in rest):
        return answer(404, {"error": "there is no such path"})
    method = event["requestContext"]["http"]["method"]
    route = ROUTES.get((method, len(rest)))
    if route is None:
        return answer(405, {"error": f"{method} is not for this path"})
    try:
        return route(*map(int, rest), **read(event))
    except (TypeError, ValueError) as error:
        return answer(400, {"error": str(error)})
    except sqlite3.IntegrityError:
        return answer(409, {"error": "there is an item of this name"})


def read(event):
    """The body's name and count, where there is one."""
    body = json.loads(event["body"]) if event.get("body") else {}
    if not isinstance(body, dict) or body.keys() - {"name", "count"}:
        raise ValueError("an item has a name and a count")
    if not isinstance(body.get("name", ""), str) or not isinstance(body.get("count", 0), int):
        raise ValueError("the name is a text and the count a number")
    return body


def add(name, count=0):
    added = database.execute("INSERT INTO items (name, count) VALUES (?, ?)", (name, count))
    return answer(201, one(added.lastrowid), {"location": f"/items/{added.lastrowid}"})


def everything():
    return answer(200, [dict(row) for row in database.execute("SELECT * FROM items ORDER BY id")])


def get(number):
    found = one(number)
    return answer(200, found) if found else answer(404, {"error": f"there is no item {number}"})


def change(number, **values):
    for column in values:  # `read` lets through the names of columns only
        database.execute(f"UPDATE items SET {column} = ? WHERE id = ?", (values[column], number))
    return get(number)


def remove(number):
    removed = database.execute("DELETE FROM items WHERE id = ?", (number,)).rowcount
    return answer(204) if removed else answer(404, {"error": f"there is no item {number}"})


ROUTES = {("POST", 0): add, ("GET", 0): everything, ("GET", 1): get, ("PATCH", 1): change, ("DELETE", 1): remove}


def one(number):
    row = database.execute("SELECT * FROM items WHERE id = ?", (number,)).fetchone()
    return dict(row) if row else None


def answer(status, body=None, headers=None):
    head = {"statusCode": status, "headers": {"content-type": "application/json", **(headers or {})}}
    return head if body is None else {**head, "body": json.dumps(body)}
