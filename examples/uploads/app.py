"""Images that are resized when they are uploaded, behind a function URL: POST one, then GET it in each size.

    pip install -r requirements.txt -t build && cp app.py build
    cleave deploy build --name uploads --memory 1024 --timeout 30
    cleave invoke uploads -d '{"rawPath": "/", "requestContext": {"http": {"method": "GET"}}}'
    cleave urls create uploads

The last line says where it is: then `curl -H 'content-type: image/png' --data-binary @photo.png URL/` answers with the
paths of the sizes. Each size is made once, at the upload, and kept in /tmp as long as the sandbox lives.
"""

import base64
import hashlib
import io
import json
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

SIZES = {"small": (160, 160), "medium": (640, 640)}
FOLDER = Path("/tmp/images")


def handler(event, context):
    """A request as function URLs send it: bodies that are no text come, and go, in Base64."""
    parts = event["rawPath"].strip("/").split("/")
    method = event["requestContext"]["http"]["method"]
    if method == "POST" and parts == [""]:
        body = event.get("body", "")
        return upload(base64.b64decode(body) if event.get("isBase64Encoded") else body.encode())
    if method == "GET" and len(parts) == 2 and parts[1] in SIZES and parts[0].isalnum():
        file = FOLDER / f"{parts[0]}-{parts[1]}.jpg"
        if file.exists():
            head = {"content-type": "image/jpeg", "cache-control": "immutable"}
            image = base64.b64encode(file.read_bytes()).decode()
            return {"statusCode": 200, "headers": head, "body": image, "isBase64Encoded": True}
    return answer(404, {"error": "POST an image to /, or GET /ID/small or /ID/medium"})


def upload(data):
    """Keep an image in each size; the same image has the same id."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft("RGB", SIZES["medium"])  # a large JPEG is read at a fraction of its size
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        return answer(415, {"error": str(error)})
    name = hashlib.sha256(data).hexdigest()[:16]
    FOLDER.mkdir(exist_ok=True)
    made = {}
    for size, most in SIZES.items():
        scaled = image.copy()
        scaled.thumbnail(most)
        scaled.save(FOLDER / f"{name}-{size}.jpg", quality=85)
        made[size] = {"path": f"/{name}/{size}", "width": scaled.width, "height": scaled.height}
    return answer(201, made)


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
