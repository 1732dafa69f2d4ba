"""Thumbnails by Pillow: an image in, a JPEG of at most `width` x `height` out, upright and without its metadata.

    pip install -r requirements.txt -t build && cp app.py build
    cleave deploy build --name thumbnails --memory 1024 --timeout 30
    cleave invoke thumbnails --raw -d @photo.png > small.jpg

A raw event is the image itself, and so is the answer. An event in JSON, as AWS's clients send it, has the image in
Base64, and so has its answer.
"""

import base64
import io

from PIL import Image, ImageOps

SIZE = (320, 320)


def handler(event, context):
    """bytes → bytes; {"image": Base64, "width": …, "height": …} → {"image": Base64, "width": …, "height": …}."""
    if isinstance(event, bytes):
        return thumbnail(event, SIZE)[0]
    wanted = (event.get("width", SIZE[0]), event.get("height", SIZE[1]))
    data, (width, height) = thumbnail(base64.b64decode(event["image"]), wanted)
    return {"image": base64.b64encode(data).decode(), "width": width, "height": height}


def thumbnail(data, wanted):
    """A JPEG and its size, which keeps the image's proportions and is never larger than it."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", wanted)  # a large JPEG is read at a fraction of its size
        image = ImageOps.exif_transpose(image).convert("RGB")
        image.thumbnail(wanted)
        made = io.BytesIO()
        image.save(made, "JPEG", quality=85)
        return made.getvalue(), image.size
