"""Requests made from the service's own description, legal and not (schemathesis): only answers that it describes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from live_service import ROOT, Server
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

# no key is needed here; and whether random bytes are audio is not for a description to say
NOT_HERE = ("ignored_auth", "positive_data_acceptance")


def test_requests_from_the_description(service: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    legal, wrong = set(), set()
    for found in schema.get_all_operations():
        operation = found.ok()
        legal |= _asked(operation, GenerationMode.POSITIVE)
        with suppress(Unsatisfiable):  # where a request takes nothing, or a word that may be any
            wrong |= _asked(operation, GenerationMode.NEGATIVE)
    assert {"POST /v1/understand", "POST /v1/bundles/{name}/reload", "GET /metrics"} <= legal
    assert "POST /v1/understand" in wrong
    recording = ROOT / "examples" / "turn-on-the-kitchen-lights.flac"
    assert service.client().understand(recording).text == "turn on the kitchen lights"


def _asked(operation: Any, mode: GenerationMode) -> set[str]:
    """A dozen requests; which operations they were of."""
    checks = [check for check in CHECKS.get_all() if check.__name__ not in NOT_HERE]
    asked: set[str] = set()

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        asked.add(case.operation.label)
        case.call_and_validate(checks=checks, timeout=60)

    ask()
    return asked
