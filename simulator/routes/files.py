"""How do files get in? Uploads, presigned addresses and the asset library.

The type of an upload is guessed from its *name* alone, whatever the client declares; text files are refused.
"""

from __future__ import annotations

import mimetypes
import secrets
import string
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from simulator.answers import refuse, service_of, tenant_of
from simulator.bucket import StoredObject
from simulator.rows import Asset
from simulator.timestamps import naive, now

router = APIRouter()

MAX_BYTES = 250 * 1024 * 1024
_ALPHABET = string.ascii_letters + string.digits


class RegisterAsset(BaseModel):
    file_id: str
    file_name: str
    file_size: int
    db_path: str
    url: str
    mime_type: str


class NewFolder(BaseModel):
    name: str
    parent_path: str = "/"


class AddModel(BaseModel):
    url: str
    filename: str
    folder_path: str


def new_file_id(prefix: str) -> str:
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(16))}"


def _kind_of(file_name: str) -> tuple[str, str]:
    """Tell the content type and the id prefix of a file by its name. Raises 400 for types that are not taken."""
    guessed = mimetypes.guess_type(file_name)[0] or "application/octet-stream"
    prefixes = {"image": "img", "video": "vid", "audio": "audio"}
    family = guessed.split("/")[0]
    if family in prefixes:
        return guessed, prefixes[family]
    if family != "application":
        raise refuse(400, "Unsupported file type")
    return guessed, "zip" if "zip" in guessed else "file"


def _extension(file_name: str) -> str:
    return f".{file_name.rsplit('.', 1)[1]}" if "." in file_name else ""


async def _received(file: UploadFile) -> bytes:
    content = await file.read()
    if len(content) > MAX_BYTES:
        raise refuse(400, "File size exceeds 250MB limit")
    return content


@router.post("/file/upload")
async def upload_file(request: Request, file: UploadFile) -> JSONResponse:
    bucket = service_of(request).bucket
    name = file.filename or "file"
    content_type, prefix = _kind_of(name)
    file_id = new_file_id(prefix)
    key = f"inputs/{file_id}{_extension(name)}"
    bucket.put(key, StoredObject(content_type, await _received(file)))
    return JSONResponse(
        {
            "message": "File uploaded successfully",
            "file_id": file_id,
            "file_name": name,
            "file_url": bucket.url(key),
        }
    )


@router.post("/file")
async def add_model(_request: Request, body: AddModel) -> JSONResponse:
    """Not an upload: upstream adds a model to the model volume here."""
    return JSONResponse({"message": f"{body.filename} is being added to {body.folder_path}"})


@router.get("/assets/presigned-url")
async def presigned_url(
    request: Request, file_name: str, kind: Annotated[str, Query(alias="type")], parent_path: str = "/"
) -> JSONResponse:
    """Give the address for a PUT; a `size` in the query is ignored."""
    bucket = service_of(request).bucket
    family = kind.split("/", maxsplit=1)[0]
    file_id = new_file_id({"image": "img", "video": "vid", "audio": "audio"}.get(family, "file"))
    name = f"{file_id}{_extension(file_name)}"
    key = f"assets/{name}"
    return JSONResponse(
        {
            "url": bucket.presigned(key, method="PUT", signed_headers="content-type;host;x-amz-acl"),
            "download_url": bucket.url(key),
            "file_id": file_id,
            "db_path": _under(parent_path, name),
            "is_public": True,
        }
    )


@router.post("/assets/register")
async def register_asset(request: Request, body: RegisterAsset) -> JSONResponse:
    asset = _asset(request, body.file_id, body.file_name, body.db_path)
    asset.file_size, asset.url, asset.mime_type = body.file_size, body.url, body.mime_type
    return JSONResponse(_asset_row(asset))


@router.post("/assets/upload")
async def upload_asset(request: Request, file: UploadFile, parent_path: str = "/") -> JSONResponse:
    bucket = service_of(request).bucket
    name = file.filename or "file"
    content_type, prefix = _kind_of(name)
    content = await _received(file)
    file_id = new_file_id(prefix)
    stored_name = f"{file_id}{_extension(name)}"
    bucket.put(f"assets/{stored_name}", StoredObject(content_type, content))
    asset = _asset(request, file_id, name, _under(parent_path, stored_name))
    asset.file_size, asset.mime_type = len(content), content_type
    asset.url = bucket.url(f"assets/{stored_name}")
    return JSONResponse(_asset_row(asset))


@router.post("/assets/folder")
async def new_folder(request: Request, body: NewFolder) -> JSONResponse:
    asset = _asset(request, new_file_id("folder"), body.name, _under(body.parent_path, body.name))
    asset.is_folder = True
    return JSONResponse(_asset_row(asset))


@router.get("/assets")
async def list_assets(request: Request, path: str = "/") -> JSONResponse:
    parent = path.strip("/")
    found = [asset for asset in _own_assets(request) if asset.path.rpartition("/")[0] == parent]
    return JSONResponse([_asset_row(asset) for asset in found])


@router.get("/assets/search")
async def search_assets(request: Request, query: str, limit: int = 5) -> JSONResponse:
    found = [asset for asset in _own_assets(request) if query.lower() in asset.name.lower()]
    return JSONResponse([_asset_row(asset) for asset in found[:limit]])


@router.get("/assets/{asset_id}")
async def read_asset(request: Request, asset_id: str) -> JSONResponse:
    return JSONResponse(_asset_row(_found(request, asset_id)))


@router.delete("/assets/{asset_id}")
async def delete_asset(request: Request, asset_id: str) -> JSONResponse:
    _found(request, asset_id).deleted = True
    return JSONResponse({"message": "Asset deleted successfully"})


def _under(parent_path: str, name: str) -> str:
    parent = parent_path.strip("/")
    return f"{parent}/{name}" if parent else name


def _asset(request: Request, asset_id: str, name: str, path: str) -> Asset:
    tenant = tenant_of(request)
    asset = Asset(asset_id, tenant.user_id, tenant.org_id, name, path, created_at=now(), updated_at=now())
    service_of(request).tables.assets[asset_id] = asset
    return asset


def _own_assets(request: Request) -> list[Asset]:
    tenant = tenant_of(request)
    return [asset for asset in service_of(request).tables.assets.values() if tenant.owns(asset) and not asset.deleted]


def _found(request: Request, asset_id: str) -> Asset:
    for asset in _own_assets(request):
        if asset.id == asset_id:
            return asset
    raise refuse(404, "Asset not found")


def _asset_row(asset: Asset) -> dict[str, Any]:
    return {
        "id": asset.id,
        "user_id": asset.user_id,
        "org_id": asset.org_id,
        "name": asset.name,
        "is_folder": asset.is_folder,
        "path": asset.path,
        "file_size": asset.file_size,
        "url": asset.url,
        "mime_type": asset.mime_type,
        "created_at": naive(asset.created_at),
        "updated_at": naive(asset.updated_at),
        "deleted": asset.deleted,
    }
