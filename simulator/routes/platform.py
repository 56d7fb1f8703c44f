"""What does a GPU second cost? US dollars, the one price list the API has; no key needed."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

router = APIRouter()

PRICES = {
    "T4": 0.00018,
    "L4": 0.00032,
    "A10G": 0.000337,
    "L40S": 0.000596,
    "A100": 0.00114,
    "A100-80GB": 0.001708,
    "H100": 0.002338,
    "H200": 0.001891,
    "B200": 0.002604,
    "CPU": 0.000042,
}


@router.get("/platform/gpu-pricing")
async def gpu_pricing() -> JSONResponse:
    return JSONResponse(PRICES)


@router.get("/models")
async def models() -> JSONResponse:
    return JSONResponse([])


@router.get("/deployments/community")
async def community() -> JSONResponse:
    return JSONResponse([])
