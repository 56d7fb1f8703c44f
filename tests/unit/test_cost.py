"""The cost of a run: an estimate as a decimal text, never negative, nothing when it is not known."""

from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.request import GPU
from tasks.cost import PRICES, cost


@given(st.sampled_from(sorted(PRICES)), st.floats(0, 86_400))
def test_a_cost_is_a_decimal_text(gpu: str, seconds: float) -> None:
    """The amount is a plain decimal number as text, not negative, within a rounding of price times time."""
    found = cost(gpu, seconds)
    assert found is not None
    usd = Decimal(found.usd)
    assert usd >= 0
    assert "e" not in found.usd.lower()
    assert abs(usd - PRICES[gpu] * Decimal(seconds)) <= Decimal("0.000001")
    assert found.gpu == gpu
    assert found.basis


@given(st.sampled_from(sorted(PRICES)), st.floats(max_value=-1e-9, allow_nan=False, allow_infinity=False))
def test_a_negative_time_has_no_cost(gpu: str, seconds: float) -> None:
    """Late updates make run times negative; nobody is paid back."""
    assert cost(gpu, seconds) is None


@given(st.text().filter(lambda name: name not in PRICES))
def test_an_unknown_gpu_has_no_cost(gpu: str) -> None:
    """A GPU without a list price gives no estimate instead of a wrong one."""
    assert cost(gpu, 10.0) is None


def test_what_is_not_known_has_no_cost() -> None:
    """Without a GPU or a time there is no estimate."""
    assert cost(None, 10.0) is None
    assert cost("A10G", None) is None


@pytest.mark.parametrize("gpu", get_args(GPU))
def test_every_gpu_that_can_be_asked_for_has_a_price(gpu: str) -> None:
    """What a request may name can be estimated."""
    assert cost(gpu, 1.0) is not None


def test_known_amount() -> None:
    """Twelve seconds of an A10G are 0.004044 dollars."""
    found = cost("A10G", 12.0)
    assert found is not None
    assert (found.usd, found.seconds) == ("0.004044", 12.0)
