"""The five terms of an invocation."""

import pytest

from protos.errors import WireError
from protos.timing import Timing

TIMING = Timing(trigger_s=0.001, init_s=0.02, load_s=0.003, infer_s=0.0104, response_s=0.0005)


def test_the_terms_travel_as_milliseconds() -> None:
    terms = {"trigger": 1.0, "init": 20.0, "load": 3.0, "infer": 10.4, "response": 0.5}
    assert TIMING.to_ms() == terms
    assert Timing.from_ms(terms) == TIMING
    assert Timing.from_json(TIMING.to_json()) == TIMING


def test_the_total_is_the_sum() -> None:
    assert TIMING.total_s == pytest.approx(0.0349)


def test_the_wait_is_all_that_passed_before_the_inference() -> None:
    assert TIMING.wait_s == pytest.approx(0.024)


def test_terms_of_newer_versions_are_ignored() -> None:
    assert Timing.from_ms({**TIMING.to_ms(), "queue": "later"}) == TIMING


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "timing is not a JSON object: Expected `object`, got `array`"),
        ("{}", "timing has no number for 'trigger': send all five terms in ms"),
        ('{"trigger": true}', "timing has no number for 'trigger': send all five terms in ms"),
        ('{"trigger": -1}', "timing says trigger took -1 ms: send a duration"),
    ],
)
def test_what_is_no_timing_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(WireError) as caught:
        Timing.from_json(text)
    assert str(caught.value) == sentence
