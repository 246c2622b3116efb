"""The graph search against enumeration of every sentence, and its streaming promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_domains import Domain, Sentence, ctc_viterbi, random_domain, random_log_probs, slot_list

from sayso.core.automaton import Call, Meaning
from sayso.decoding.graph import GraphConfig, GraphHypothesis, GraphSearch

EXACT = GraphConfig.exact(open_penalty=0.3)


def identity(domain: Domain, hypothesis: GraphHypothesis) -> tuple[str, tuple[tuple[str, str], ...]]:
    spec = domain.meanings[hypothesis.meaning]
    matched = [(s.slot, s.value) for s in hypothesis.slots if s.list is not None]
    return spec.intent, tuple(sorted((*spec.slots, *matched)))


def found_by_search(domain: Domain, search: GraphSearch, log_probs: np.ndarray) -> dict:
    state = search.step(search.start(), log_probs)
    return {identity(domain, h): (h.score, h.tokens) for h in search.nbest(state, 10_000)}


def check_same(domain: Domain, found: dict, log_probs: np.ndarray) -> None:
    expected = {k: v for k, v in domain.best(log_probs).items() if v[0] > -np.inf}
    assert found.keys() == expected.keys()
    for key, (score, _) in expected.items():
        assert found[key][0] == pytest.approx(score, abs=1e-9)
        # ties between token sequences are legal, a sequence of another score is not
    spoken = {tokens for tokens, _, _, _ in domain.spoken()}
    assert all(tokens in spoken for _, tokens in found.values())


@pytest.mark.parametrize("seed", range(60))
def test_unpruned_search_is_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    domain = random_domain(rng, tokens=int(rng.integers(2, 5)))
    log_probs = random_log_probs(rng, int(rng.integers(1, 9)), len(domain.pieces))
    check_same(domain, found_by_search(domain, GraphSearch(domain.automaton(), EXACT), log_probs), log_probs)


@pytest.mark.parametrize("seed", range(25))
def test_open_slot_is_enumeration_over_token_sequences(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    domain = random_domain(rng, open_slot=True)
    log_probs = random_log_probs(rng, int(rng.integers(2, 8)), len(domain.pieces))
    check_same(domain, found_by_search(domain, GraphSearch(domain.automaton(), EXACT), log_probs), log_probs)


@pytest.mark.parametrize("seed", range(15))
def test_replaced_list_is_the_only_change(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    domain = random_domain(rng)
    contacts = (((3, 1), "new"), ((2,), "newer"), ((2, 2, 1), "new"))
    changed = replace(domain, lists={**domain.lists, "x": contacts})
    automaton = domain.automaton().with_lists({"x": slot_list(contacts)})
    log_probs = random_log_probs(rng, 7, len(domain.pieces))
    check_same(changed, found_by_search(changed, GraphSearch(automaton, EXACT), log_probs), log_probs)


def test_repeated_token_needs_a_blank_between() -> None:
    domain = Domain((Sentence((1, 1), (0,)),), {}, (), (Meaning(intent="twice"),), ("<blk>", "▁a"))
    search = GraphSearch(domain.automaton(), EXACT)
    log_probs = np.log(np.array([[0.1, 0.9]] * 2))
    assert search.nbest(search.step(search.start(), log_probs)) == []
    log_probs = np.log(np.array([[0.1, 0.9], [0.6, 0.4], [0.1, 0.9]]))
    (best,) = search.nbest(search.step(search.start(), log_probs))
    assert best.frames == (0, 2) and best.score == pytest.approx(np.log(0.9 * 0.6 * 0.9))


def test_slots_frames_and_peaks_are_those_of_the_alignment() -> None:
    calls = (Call(list="x", slot="room"), Call(list=None, slot="item", max_tokens=3))
    sentences = (Sentence((1, -1, -2, 4), (0,)),)
    pieces = ("<blk>", "▁a", "▁b", "c", "▁d", "e")
    domain = Domain(sentences, {"x": (((2, 3), "KITCHEN"),)}, calls, (Meaning(intent="put"),), pieces)
    spoken = [0, 1, 1, 0, 2, 3, 2, 5, 0, 5, 4, 0]
    log_probs = np.log(np.full((len(spoken), 6), 0.02) + 0.88 * np.eye(6)[spoken])
    log_probs[2, 1] = np.log(0.95)
    search = GraphSearch(domain.automaton(), GraphConfig())
    (best,) = search.nbest(search.step(search.start(), log_probs))
    assert best.tokens == (1, 2, 3, 2, 5, 5, 4) and best.frames == (1, 4, 5, 6, 7, 9, 10)
    assert best.scores == pytest.approx(np.log([0.95, *[0.9] * 6]))
    room, item = best.slots
    assert (room.slot, room.list, room.value, room.first, room.last) == ("room", "x", "KITCHEN", 1, 2)
    assert (item.slot, item.list, item.value, item.first, item.last) == ("item", None, "", 3, 5)


@pytest.mark.parametrize(
    "config", [EXACT, GraphConfig(beam=4, max_active=12, histories=2, open_top_k=2, commit_beam=2)]
)
def test_any_chunking_gives_the_same_and_streams_do_not_meet(config: GraphConfig) -> None:
    rng = np.random.default_rng(7)
    domain = random_domain(rng, tokens=4, open_slot=True)
    search = GraphSearch(domain.automaton(), config)
    inputs = [random_log_probs(rng, 14, len(domain.pieces)) for _ in range(3)]
    whole = [search.step(search.start(), x) for x in inputs]
    states = [search.start() for _ in inputs]
    cuts = [np.sort(rng.integers(0, 15, size=5)) for _ in inputs]
    for part in range(6):
        for state, x, cut in zip(states, inputs, cuts, strict=True):
            edges = [0, *cut, 14]
            search.step(state, x[edges[part] : edges[part + 1]])
            search.stable(state)
    for alone, chunked in zip(whole, states, strict=True):
        assert search.nbest(alone, 50, final=False) == search.nbest(chunked, 50, final=False)
        assert search.margin(alone) == search.margin(chunked)
        assert search.stable(alone) == search.stable(chunked)


def test_a_price_of_blank_is_less_of_it_for_grammar_and_filler() -> None:
    rng = np.random.default_rng(21)
    domain = random_domain(rng, tokens=4, open_slot=True)
    dear, plain = (GraphSearch(domain.automaton(), EXACT.model_copy(update={"blank_penalty": p})) for p in (1.5, 0.0))
    for _ in range(5):
        x = random_log_probs(rng, 10, len(domain.pieces))
        before, less = x.copy(), x.copy()
        less[:, 0] -= 1.5
        found, expected = dear.step(dear.start(), x), plain.step(plain.start(), less)
        assert dear.nbest(found, 50, final=False) == plain.nbest(expected, 50, final=False)
        assert dear.margin(found) == plain.margin(expected)
        assert np.array_equal(x, before)


def test_what_noise_covers_is_said_all_the_same_where_blank_costs() -> None:
    meanings = (Meaning(intent="short"), Meaning(intent="long"))
    sentences = (Sentence((1, 2), (0,)), Sentence((1, 2, 3), (1,)))
    domain = Domain(sentences, {}, (), meanings, ("<blk>", "▁a", "▁b", "▁c"))
    x = np.log(np.full((6, 4), 0.01))
    for frame, token in ((0, 1), (2, 2)):
        x[frame, token] = np.log(0.9)
    x[[1, 3, 5], 0] = np.log(0.9)
    x[4, 0], x[4, 3] = np.log(0.6), np.log(0.2)  # the last word lies under a plate
    best = [GraphSearch(domain.automaton(), GraphConfig(blank_penalty=p)) for p in (0.0, 2.0)]
    said = [search.nbest(search.step(search.start(), x))[0].tokens for search in best]
    assert said == [(1, 2), (1, 2, 3)]


@pytest.mark.parametrize("commit", [None, 1.0])
def test_stable_prefix_only_grows_and_finals_keep_it(commit: float | None) -> None:
    rng = np.random.default_rng(11)
    grown = 0
    for _ in range(30):
        domain = random_domain(rng, tokens=4)
        search = GraphSearch(domain.automaton(), GraphConfig(beam=3.0, commit_beam=commit))
        state, stable = search.start(), ()
        for frame in random_log_probs(rng, 12, len(domain.pieces), sharpness=4.0):
            search.step(state, frame[None])
            longer = search.stable(state)
            assert longer[: len(stable)] == stable
            stable = longer
        grown += bool(stable)
        for hypothesis in search.nbest(state, 100, final=False):
            assert hypothesis.tokens[: len(stable)] == stable
    assert grown > 5


def test_stable_is_the_common_prefix_of_all_live_hypotheses() -> None:
    rng = np.random.default_rng(12)
    for _ in range(30):
        domain = random_domain(rng, tokens=2)
        search = GraphSearch(domain.automaton(), GraphConfig(beam=2.0, histories=None, commit_beam=None))
        state = search.step(search.start(), random_log_probs(rng, 5, len(domain.pieces), sharpness=4.0))
        frontier, history = state.frontier, state.history
        live = [h for h, s in zip(frontier.tok_hist, frontier.tok, strict=True) if s > -np.inf]
        live += [h for h, s in zip(frontier.blk_hist, frontier.blk, strict=True) if s > -np.inf]
        sequences = [tuple(history.trace(int(h))[0][0]) for h in live]
        common = []
        for column in zip(*sequences, strict=False):
            if len(set(column)) > 1:
                break
            common.append(column[0])
        assert search.stable(state) == tuple(common)


def test_intent_scores_and_bonus() -> None:
    meanings = (Meaning(intent="p", weight=-1.0), Meaning(intent="q", weight=-2.0))
    domain = Domain((Sentence((1, 2), (0, 1)), Sentence((2,), (1,))), {}, (), meanings, ("<blk>", "▁a", "▁b"))
    search = GraphSearch(domain.automaton(), EXACT)
    log_probs = random_log_probs(np.random.default_rng(0), 4, 3)
    both, single = ctc_viterbi(log_probs, (1, 2)), ctc_viterbi(log_probs, (2,))
    state = search.step(search.start(), log_probs)
    assert search.intent_scores(state) == pytest.approx({"p": both - 1, "q": max(both, single) - 2})
    assert [h.meaning for h in search.nbest(state, bonus={"q": 100.0})] == [1, 0]
    assert [h.meaning for h in search.nbest(state, bonus={"p": 100.0})] == [0, 1]


def test_can_extend_tells_a_beginning_from_an_end() -> None:
    domain = Domain(
        (Sentence((1,), (0,)), Sentence((1, 2), (0,))), {}, (), (Meaning(intent="p"),), ("<blk>", "▁a", "▁b")
    )
    search = GraphSearch(domain.automaton(), EXACT)
    sharp = np.log(np.full((2, 3), 0.01) + 0.97 * np.eye(3)[[1, 2]])
    state = search.start()
    assert search.can_extend(state)
    assert search.can_extend(search.step(state, sharp[:1]))
    assert not search.can_extend(search.step(state, sharp[1:]))


def test_margin_is_the_difference_to_the_filler_per_non_blank_frame() -> None:
    domain = Domain((Sentence((1, 2), (0,)),), {}, (), (Meaning(intent="p", weight=-9),), ("<blk>", "▁a", "▁b"))
    search = GraphSearch(domain.automaton(), GraphConfig.exact(filler_penalty=0.0))
    log_probs = np.log(np.array([[0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2]]))
    state = search.step(search.start(), log_probs)
    expected = (ctc_viterbi(log_probs, (1, 2)) - np.log(0.8 * 0.6 * 0.7)) / 2
    assert search.margin(state) == pytest.approx(expected)
    assert search.margin(search.start()) == -np.inf and search.margin(search.start(), final=False) == 0.0


def test_memory_stays_bounded_in_a_long_stream() -> None:
    rng = np.random.default_rng(3)
    domain = random_domain(rng, tokens=4, open_slot=True)
    search = GraphSearch(domain.automaton(), GraphConfig(open_counts=True))
    state = search.start()
    state.history._limit = state.history._floor = 200
    reference = search.start()
    reference.history._limit = reference.history._floor = 1 << 14
    for _ in range(20):
        log_probs = random_log_probs(rng, 20, len(domain.pieces), sharpness=0.5)
        search.step(state, log_probs)
        search.step(reference, log_probs)
        assert state.history.size < 800
    assert reference.history.size > 1600
    assert search.nbest(state, 20) == search.nbest(reference, 20)


def test_the_bound_of_an_open_slot_holds_without_counts() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        domain = random_domain(rng, open_slot=True)
        search = GraphSearch(domain.automaton(), GraphConfig(beam=np.inf, commit_beam=None, open_penalty=0.3))
        log_probs = random_log_probs(rng, 7, len(domain.pieces))
        best = max((score for score, _ in domain.best(log_probs).values()), default=-np.inf)
        spoken = {tokens for tokens, _, _, _ in domain.spoken()}
        for hypothesis in search.nbest(search.step(search.start(), log_probs), 100):
            assert hypothesis.tokens in spoken and hypothesis.score <= best + 1e-9


def test_wrong_width_and_dead_stream() -> None:
    domain = random_domain(np.random.default_rng(0))
    search = GraphSearch(domain.automaton(), GraphConfig())
    with pytest.raises(ValueError, match="expected"):
        search.step(search.start(), np.zeros((2, 9)))
    state = search.step(search.start(), np.full((3, len(domain.pieces)), -np.inf))
    search.step(state, np.zeros((0, len(domain.pieces))))
    assert search.nbest(state, final=False) == [] and search.stable(state) == () and search.margin(state) == -np.inf
