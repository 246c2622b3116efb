"""What is written about the service is so: schemas, pages, names of metrics, settings."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import yaml
from live_service import ROOT, Server

from sayso.core.config import parse
from sayso.serving.config import Limits, ServeConfig
from sayso.serving.protocols import ADAPTERS
from sayso.serving.refusal import CODES
from sayso.serving.schema import asyncapi, openapi, read_client, read_server

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return [*own, *(ref for value in node.values() for ref in refs(value))]
    return [ref for value in node for ref in refs(value)] if isinstance(node, list) else []


def follow(root: Any, ref: str) -> Any:
    assert ref.startswith("#/")
    for part in ref[2:].split("/"):
        root = root[part]
    return root


def test_the_page_of_the_stream_is_what_is_parsed() -> None:
    written = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(asyncapi())), "write it again: python tests/serving/test_descriptions.py"
    for ref in refs(written):
        assert follow(written, ref)
    start = written["components"]["schemas"]["Start"]
    assert start["additionalProperties"] is False and start["properties"]["version"]["const"] == 1
    assert set(written["components"]["schemas"]["ErrorMessage"]["properties"]["code"]["enum"]) == set(CODES)


def test_requests_are_described(service: Server) -> None:
    description = json.loads(service.client().get("/openapi.json"))
    assert description == json.loads(json.dumps(openapi()))
    for ref in refs(description):
        assert follow(description, ref)
    page = [*re.findall(r"^\| `(?:GET |POST |ws )?(/\S*?)`", PAGE, re.M), "/health/ready", "/v1/models"]
    elsewhere = {"/", "/v1/stream", "/openapi.json", "/v1/audio/transcriptions", "/v1/models", "/vosk"}
    spoken = {path.replace("NAME", "{name}") for path in page} - elsewhere
    assert set(description["paths"]) == spoken
    assert {words.split()[1] for adapter in ADAPTERS for words in adapter.endpoints} <= set(page)


def test_messages_shown_are_messages() -> None:
    shown = re.findall(r"^```json\n(.*?)^```$", PAGE, re.S | re.M)
    kinds = [json.loads(text)["type"] for text in shown]
    assert kinds == ["start", "end", "partial", "error", "start"]
    for kind, text in zip(kinds, shown, strict=True):
        (read_client if kind in ("start", "end") else read_server)(text)


def test_settings_shown_are_settings() -> None:
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.S | re.M)
    config = parse(ServeConfig, tomllib.loads(shown), where="docs/serving.md")
    assert config.engines == 2 and list(config.bundles) == ["home", "office"] and config.auth.keys[0].name == "panel"
    table = PAGE.split("## Limits")[1].split("##")[0]
    named = {
        name for row in re.findall(r"^\| [^|]+ \| (`.+?`) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)
    }
    assert named | {"drain_s"} == set(Limits.model_fields)


def test_metrics_named_are_there(service: Server) -> None:
    text = service.client().get("/metrics")
    exported = {name for name in re.findall(r"^# TYPE (slu_\w+)", text, re.M) if not name.endswith("_created")}
    listed = set(re.findall(r"`(slu_\w+)`", PAGE))
    assert listed == exported
    assert set(re.findall(r"[a-z_]+\{([a-z_]+)=", text)) <= {
        "protocol", "outcome", "reason", "engine", "intent", "version", "le",
    }  # fmt: skip


if __name__ == "__main__":
    (ROOT / "docs" / "asyncapi.yaml").write_text(
        "# Written by tests/serving/test_descriptions.py from sayso/serving/schema.py\n"
        + yaml.safe_dump(json.loads(json.dumps(asyncapi())), sort_keys=False, width=110, allow_unicode=True),
        encoding="utf-8",
    )
