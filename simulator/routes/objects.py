"""How are files of the bucket downloaded and uploaded? `GET` and presigned `PUT` on `/sim-bucket/{key}`.

Refusals are the XML of an S3-like store. Pictures are drawn in a thread at the first download.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from simulator.answers import service_of
from simulator.bucket import NAME, AccessRefusedError, StoredObject

router = APIRouter()


@router.get(f"/{NAME}/{{key:path}}")
async def download(request: Request, key: str) -> Response:
    try:
        stored = service_of(request).bucket.fetch(key, request.url.query)
    except AccessRefusedError as refusal:
        return Response(refusal.xml(), refusal.status, media_type="application/xml")
    return Response(await asyncio.to_thread(stored.read), media_type=stored.content_type)


@router.put(f"/{NAME}/{{key:path}}")
async def upload(request: Request, key: str) -> Response:
    bucket = service_of(request).bucket
    try:
        bucket.accept(key, request.url.query)
    except AccessRefusedError as refusal:
        return Response(refusal.xml(), refusal.status, media_type="application/xml")
    public = request.headers.get("x-amz-acl") == "public-read"
    kind = request.headers.get("content-type", "application/octet-stream")
    bucket.put(key, StoredObject(kind, await request.body(), public))
    return Response(status_code=200)
