"""A web app by FastAPI behind a handler by Mangum, which speaks API Gateway's and function URLs' events.

    pip install -r requirements.txt -t build && cp app.py build
    cleave deploy build --name web --memory 512 --timeout 30
    cleave invoke web -d @event.json

What is kept in `NOTES` lasts as long as the sandbox: a real app keeps it in a database.
"""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from mangum import Mangum
from pydantic import BaseModel, Field


class Note(BaseModel):
    """What a client sends."""

    text: Annotated[str, Field(min_length=1, max_length=1_000)]
    tags: list[str] = []


app = FastAPI(title="Notes")
NOTES: dict[int, Note] = {}


@app.post("/notes", status_code=201)
async def add(note: Note) -> dict[str, int]:
    """Keep a note."""
    number = len(NOTES) + 1
    NOTES[number] = note
    return {"number": number}


@app.get("/notes/{number}")
async def read(number: int) -> Note:
    """A note that was kept."""
    if number not in NOTES:
        raise HTTPException(404, f"there is no note {number}")
    return NOTES[number]


@app.get("/whoami")
def whoami(request: Request) -> dict[str, str]:
    """The invocation behind this request."""
    return {"request_id": request.scope["aws.context"].aws_request_id}


handler = Mangum(app, lifespan="off")
