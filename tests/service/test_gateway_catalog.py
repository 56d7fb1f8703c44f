"""What can be run, with its inputs; and files for them, through the simulator."""

import httpx
import pytest

from shared.comfydeploy import ComfyDeploy
from shared.errors import InvalidInput
from tests.service.gateway_fixtures import Gateway, Open, catalog_of, keys_of
from tests.service.worker_fixtures import Api

pytestmark = pytest.mark.redis


@pytest.fixture
async def connected(open_gateway: Open, api: Api) -> Gateway:
    """A gateway with the simulator behind it."""
    return await open_gateway(COMFY_DEPLOY_API_URL=f"{api.url}/api", COMFY_DEPLOY_API_KEY="sim-key")


async def test_workflows_are_listed_with_their_inputs(connected: Gateway) -> None:
    """The form of each: kinds, defaults, bounds and choices, as the API's input nodes say."""
    answer = (await connected.http.get("/v1/workflows")).json()
    assert answer["stale"] is False
    one = next(entry for entry in answer["workflows"] if entry["name"] == "SDXL Portrait")
    inputs = {entry["name"]: entry for entry in one["inputs"]}
    assert inputs["prompt"]["kind"] == "text"
    kinds = {entry["kind"] for flow in answer["workflows"] for entry in flow["inputs"] or []}
    assert {"text", "image", "number", "integer", "choice"} <= kinds
    choice = next(e for flow in answer["workflows"] for e in flow["inputs"] or [] if e["kind"] == "choice")
    assert choice["default"] in choice["choices"]


async def test_one_workflow_is_found_by_name_or_deployment(connected: Gateway) -> None:
    """A name without regard to case and blanks; an unknown one is a 404."""
    by_name = (await connected.http.get("/v1/workflows/sdxl  portrait")).json()["workflows"]
    by_id = (await connected.http.get(f"/v1/workflows/{by_name[0]['deployment_id']}")).json()["workflows"]
    assert by_id == by_name[:1]
    assert by_name[0]["schema"]["properties"]["cfg"] == {
        "title": "Guidance", "type": "number", "minimum": 1, "maximum": 20, "default": 7.0, "x-kind": "number"
    }  # fmt: skip
    assert by_name[0]["outputs"] == ["image"]
    assert "seed" in by_name[0]["schema"]["properties"], "works, though the API does not list it"
    assert (await connected.http.get("/v1/workflows/none of these")).status_code == 404


async def test_an_old_catalog_says_so(gateway: Gateway) -> None:
    """Served while the API is down, with its age; without any it is a 503."""
    assert (await gateway.http.get("/v1/workflows")).status_code == 503
    size = {"name": "size", "kind": "integer", "label": "Size", "minimum": 64, "maximum": 2048, "of_tomorrow": 1}
    await catalog_of(gateway.database, "portrait", signature={"inputs": [size], "complete": True}, age=3600)
    answer = (await gateway.http.get("/v1/workflows")).json()
    assert answer["stale"] is True
    assert 3600 <= answer["age_seconds"] < 3700
    assert answer["workflows"][0]["inputs"] == [
        {"name": "size", "kind": "integer", "title": "Size", "min": 64, "max": 2048}
        | {"description": None, "default": None, "step": None, "choices": None, "required": False, "multiline": False}
    ]


async def test_a_file_is_passed_on_and_has_an_address(connected: Gateway) -> None:
    """What comes out of the address is what went in; its name loses its folders, and its ending is that of its content."""
    content = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    answer = await connected.http.post("/v1/files", files={"file": ("../a fox.txt", content, "text/html")})
    assert answer.status_code == 201, answer.text
    kept = answer.json()
    assert (kept["filename"], kept["content_type"], kept["size"]) == ("a fox.png", "image/png", len(content))
    async with httpx.AsyncClient() as http:
        read = await http.get(kept["url"])
    assert (read.content, read.headers["content-type"]) == (content, "image/png")
    again = await connected.http.post("/v1/files", files={"file": ("b.png", content)})
    assert again.json()["url"] == kept["url"]


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.txt", b"x", 415),
        ("a.svg", b"<svg/>", 415),
        ("png", b"x", 415),
        ("a.png", b"<html>502 Bad Gateway</html>", 415),
        ("a.png", b"PK\x03\x04", 415),
        ("a.png", b"", 422),
        ("a.png", b"x" * 2001, 413),
    ],
)
async def test_what_is_no_small_picture_is_refused(open_gateway: Open, name: str, content: bytes, status: int) -> None:
    """By the ending of its name and its size; nothing is written."""
    gateway = await open_gateway(CONVEYOR_UPLOAD_BYTES="2000")
    answer = await gateway.http.post("/v1/files", files={"file": (name, content)})
    assert answer.status_code == status, answer.text
    assert await keys_of(gateway.database) == set()


async def test_a_form_without_a_file_is_refused(gateway: Gateway) -> None:
    """Another field, two files, no form at all, or a broken one."""
    assert (await gateway.http.post("/v1/files", files={"other": ("a.png", b"\xff\xd8\xff")})).status_code == 422
    assert (await gateway.http.post("/v1/files", data={"file": "x"})).status_code == 415
    two = [("file", ("a.png", b"x")), ("file", ("b.png", b"x"))]
    assert (await gateway.http.post("/v1/files", files=two)).status_code == 400
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert (await gateway.http.post("/v1/files", content=b"--y", headers=broken)).status_code in (400, 422)
    assert (await gateway.http.post("/v1/files", files={"file": ("a.png", b"\xff\xd8\xff")})).status_code == 503


async def test_the_client_says_what_the_api_does_not_take(api: Api) -> None:
    """A text file is `InvalidInput` with the API's own words."""
    async with ComfyDeploy(f"{api.url}/api", "sim-key") as client:
        with pytest.raises(InvalidInput, match="Unsupported file type"):
            await client.files.upload("a.txt", b"x", "text/plain")
