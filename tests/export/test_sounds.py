"""A bundle whose grammar listens for phones: its graph is the model's head, and the floor searches what that hears."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle, write_bundle
from sayso.core.errors import BundleError
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.export.bundle import amend_bundle, export_bundle
from sayso.models.streaming import Context
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.runtime.model import Model
from sayso.text.lexicon import Lexicon

DOMAIN = """
intents:
  turn_on: {data: [{sentences: ["turn on [the] {area} light"]}]}
  lock: {data: [{sentences: ["lock the {thing} door"]}]}
lists: {area: {values: [kitchen, hall]}, thing: {wildcard: true}}
"""


@pytest.fixture(scope="module")
def pronounced(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The parts with a head for phones and a pronounced domain, and the bundle made of them."""
    folder = tmp_path_factory.mktemp("pronounced")
    (folder / "domain.yaml").write_text(DOMAIN)
    automaton = compile_domain(load_domain(folder / "domain.yaml"), parts.tokenizer, Lexicon.load())
    torch.manual_seed(1)
    model = parts.model.config.model_copy(update={"phones": True}).build()
    model.load_state_dict(parts.model.state_dict(), strict=False)
    with torch.no_grad():
        model.phones.out.weight.mul_(8.0)
    sounds = replace(parts, model=model.eval(), automaton=automaton)
    config = parts.config(int8=False, search={"beam": 1e4, "max_active": None})
    export_bundle(model, parts.tokenizer, automaton, folder / "b", config, clips=parts.clips, checks=parts.clips[:2])
    return sounds, folder / "b"


@torch.no_grad()
def test_the_floor_searches_what_the_head_hears(pronounced: tuple[Any, Path]) -> None:
    sounds, path = pronounced
    manifest = read_bundle(path).manifest
    assert "phones" in manifest.passes[0].graphs and manifest.figures["verification"]["passed"]
    loaded, search = Model(read_bundle(path)), GraphSearch(sounds.automaton, GraphConfig(beam=1e4, max_active=None))
    told = set()
    for clip in sounds.clips:
        features = torch.from_numpy(fbank(clip))[None]
        encoded, _ = sounds.model.encoder(features, torch.tensor([features.shape[1]]), Context())
        state = search.step(search.start(), sounds.model.phones(encoded)[0].numpy())
        wanted = search.nbest(state, 4, final=False)
        stream = loaded.stream()
        for start in range(0, len(clip), 1234):
            stream.accept(clip[start : start + 1234])
        stream.finish()
        found = stream._search.nbest(stream._graph, 4, final=False)  # type: ignore[union-attr, arg-type]
        assert [h.tokens for h in found] == [h.tokens for h in wanted]
        np.testing.assert_allclose([h.score for h in found], [h.score for h in wanted], atol=1e-3)
        told.update(round(h.score, 2) for h in wanted)
    assert len(told) > len(sounds.clips), "every clip is heard alike"


def test_an_open_slot_is_written_in_pieces(pronounced: tuple[Any, Path]) -> None:
    """What the grammar hears as sounds, the free transcript's posteriors spell at the endpoint."""
    sounds, path = pronounced
    engine = Model(read_bundle(path)).engine
    assert engine.open_slots is not None and engine.search is not None
    lexicon, automaton = Lexicon.load(), sounds.automaton
    lock, the, door = (lexicon.pronounce(word)[0] for word in ("lock", "the", "door"))
    labels = [*lock, *the, *lexicon.pronounce("hall")[0], *door]
    phones = np.full((len(labels), 40), -20.0)
    phones[np.arange(len(labels)), labels] = -0.01
    rows = np.full((len(labels), engine.tokenizer.size), -20.0, np.float32)
    rows[:, 0] = -0.01
    begin = len(lock) + len(the)
    for at, token in enumerate(engine.tokenizer.encode("hall")[:3]):
        rows[begin + at, 0], rows[begin + at, token] = -20.0, -0.01
    spelled = engine.tokenizer.decode(engine.tokenizer.encode("hall")[:3])
    search = GraphSearch(automaton, GraphConfig(beam=1e4, max_active=None))
    best = search.nbest(search.step(search.start(), phones))[:1]
    (heard,) = engine.open_slots.hear(rows, best)
    assert automaton.text(best[0].tokens) == "lock the door"
    assert automaton.text(heard.tokens) == f"lock the {spelled} door"
    match = heard.slots[0]
    assert automaton.text(heard.tokens[match.first : match.last + 1]) == spelled


def test_lists_of_a_stream_may_hold_words_that_no_domain_has(pronounced: tuple[Any, Path]) -> None:
    sounds, path = pronounced
    loaded = Model(read_bundle(path))
    stream = loaded.stream({"area": ["zorblatt", ("quibbler", "Q")]})
    stream.accept(sounds.clips[0])
    assert stream.finish().applied.lists == {"area": 2}
    pieces = stream._search.automaton.pieces  # type: ignore[union-attr]
    assert "▁zorblatt" in pieces and "▁zorblatt" not in sounds.automaton.pieces


def test_what_does_not_go_together_is_refused(pronounced: tuple[Any, Path], parts: Any, tmp_path: Path) -> None:
    sounds, path = pronounced
    with pytest.raises(BundleError, match="no head for phones"):
        export_bundle(parts.model, parts.tokenizer, sounds.automaton, tmp_path / "b", parts.config(int8=False))
    bundle = read_bundle(path)
    manifest = bundle.manifest
    graphs = {role: spec for role, spec in manifest.graphs.items() if role != "phones"}
    files = {name: bundle.file(name) for name in manifest.files if name != manifest.graphs["phones"].file}
    passes = tuple(
        p.model_copy(update={"graphs": tuple(r for r in p.graphs if r != "phones")}) for p in manifest.passes
    )
    write_bundle(manifest.model_copy(update={"graphs": graphs, "passes": passes}), files, tmp_path / "deaf")
    with pytest.raises(BundleError, match="needs the graph 'phones'"):
        Model(read_bundle(tmp_path / "deaf"))
    assert amend_bundle(path, out=tmp_path / "same").graphs.keys() == manifest.graphs.keys()
