"""What every predictor and joiner in the tables must do, on tiny random instances in float64."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from sayso.core.config import override, parse
from sayso.core.errors import ConfigError
from sayso.models.assembly import ModelConfig, load_checkpoint, save_checkpoint
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.joiners import JOINERS, AdditiveConfig, GatedConfig, Joiner
from sayso.models.predictors import PREDICTORS, LstmConfig, LstmPredictor, Predictor, StatelessConfig
from sayso.text.tokenizer import train_tokenizer

ENCODER = ConformerConfig(width=16, layers=1, heads=2, feedforward=24, channels=8)


@pytest.fixture(params=[*sorted(PREDICTORS), "lstm, two layers"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    torch.manual_seed(0)
    kind, _, deep = request.param.partition(",")
    return PREDICTORS[kind](width=12, **({"layers": 2} if deep else {})).build(9).double().eval()


@pytest.fixture(params=sorted(JOINERS))
def joiner(request: pytest.FixtureRequest) -> Joiner:
    torch.manual_seed(0)
    return JOINERS[request.param](width=12).build(10, 11, 9).double()


def test_one_label_after_another_equals_the_whole(predictor: Predictor) -> None:
    targets = torch.randint(1, 9, (3, 5))
    whole = predictor(targets)
    assert whole.shape == (3, 6, predictor.width) and predictor.width == 12
    history = torch.cat([torch.zeros(3, predictor.context, dtype=torch.int64), targets], 1)
    state = predictor.init_state(3)
    for u in range(6):
        out, state = predictor.advance(history[:, u : u + predictor.context], state)
        torch.testing.assert_close(out, whole[:, u], rtol=0, atol=1e-12)
    first, _ = predictor.advance(history[:, : predictor.context], predictor.init_state(3))
    assert torch.equal(predictor.step(history[:, : predictor.context]), first)
    assert torch.equal(predictor(targets[:, :0]), first[:, None]), "no labels"


def test_later_labels_and_company_change_nothing(predictor: Predictor) -> None:
    targets = torch.randint(1, 9, (3, 6))
    together, other = predictor(targets), targets.clone()
    other[:, 4:] = 1 + other[:, 4:] % 8
    assert torch.equal(predictor(other)[:, :5], together[:, :5])
    assert not torch.allclose(predictor(other)[:, 5], together[:, 5])
    torch.testing.assert_close(predictor(targets[1:2]), together[1:2], rtol=0, atol=1e-12)


def test_states_begin_with_zeros_stack_and_split(predictor: Predictor) -> None:
    state = predictor.init_state(2)
    assert all(len(t) == 2 and not t.any() for t in state.named().values())
    old, _ = torch.tensor([[1]]).expand(1, predictor.context), None
    _, older = predictor.advance(old, predictor.init_state(1))
    both = type(state).stack([older, predictor.init_state(1)])
    out, following = predictor.advance(old.expand(2, -1), both)
    alone, after = predictor.advance(old, older)
    torch.testing.assert_close(out[:1], alone, rtol=0, atol=1e-12)
    for name, tensor in following.row(0).named().items():
        torch.testing.assert_close(tensor, after.named()[name], rtol=0, atol=1e-12)
    assert type(state).from_named(following.named()).named().keys() == following.named().keys()


def test_the_lattice_is_its_points_and_its_tiles(joiner: Joiner) -> None:
    encoded, predicted = torch.randn(2, 4, 10, dtype=torch.float64), torch.randn(2, 3, 11, dtype=torch.float64)
    lattice = joiner(encoded, predicted)
    assert lattice.shape == (2, 4, 3, 9)
    for t, u in itertools.product(range(4), range(3)):
        torch.testing.assert_close(joiner.step(encoded[:, t], predicted[:, u]), lattice[:, t, u], rtol=0, atol=1e-12)
    enc, pred = joiner.project_encoder(encoded), joiner.project_predictor(predicted)
    assert enc.shape[-1] == pred.shape[-1]
    torch.testing.assert_close(joiner.combine(enc[:, 1:3, None], pred[:, None]), lattice[:, 1:3], rtol=0, atol=1e-12)


def test_both_sides_are_heard(joiner: Joiner) -> None:
    encoded, predicted = torch.randn(1, 10, dtype=torch.float64), torch.randn(1, 11, dtype=torch.float64)
    before = joiner.step(encoded, predicted)
    assert not torch.allclose(joiner.step(encoded + 1, predicted), before)
    assert not torch.allclose(joiner.step(encoded, predicted + 1), before)


def test_gradients_reach_every_parameter(predictor: Predictor, joiner: Joiner) -> None:
    torch.manual_seed(1)
    size = predictor.width
    together = type(joiner)(joiner_config(joiner), 10, size, 9).double()
    out = together(torch.randn(8, 4, 10, dtype=torch.float64), predictor(torch.randint(1, 9, (8, 6))))
    out.square().sum().backward()
    for name, parameter in [*predictor.named_parameters(), *together.named_parameters()]:
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


def joiner_config(joiner: Joiner) -> AdditiveConfig | GatedConfig:
    return next(config for config in JOINERS.values() if type(config(width=2).build(2, 2, 2)) is type(joiner))(width=12)


def test_our_cell_is_the_frameworks() -> None:
    torch.manual_seed(0)
    predictor = LstmConfig(width=7, layers=3).build(5).double().eval()
    assert isinstance(predictor, LstmPredictor)
    labels = torch.tensor([[1, 4, 2, 2]])
    out, (hidden, cell) = predictor.lstm(predictor.embedding(labels))
    state = predictor.init_state(1)
    for u in range(4):
        step, state = predictor.advance(labels[:, u : u + 1], state)
        torch.testing.assert_close(step, out[:, u], rtol=0, atol=1e-12)
    torch.testing.assert_close(state.hidden, hidden.transpose(0, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(state.cell, cell.transpose(0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("joiner_kind", sorted(JOINERS))
@pytest.mark.parametrize("predictor_kind", sorted(PREDICTORS))
def test_checkpoints_keep_the_choice(predictor_kind: str, joiner_kind: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["turn on the light", "set a timer"] * 9, tmp_path / "t.model", vocab=30)
    config = ModelConfig(
        vocab=tokenizer.size,
        encoder=ENCODER,
        predictor=PREDICTORS[predictor_kind](width=8),
        joiner=JOINERS[joiner_kind](width=8),
    )
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    model = config.build()
    save_checkpoint(model, tokenizer, tmp_path / "ck")
    loaded, _ = load_checkpoint(tmp_path / "ck")
    assert loaded.config == config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_recipes_choose_by_kind_and_need_none_for_what_was_there_first() -> None:
    def read(*assignments: str) -> ModelConfig:
        return parse(ModelConfig, override({}, list(assignments)), where="recipe")

    assert read("predictor.width=64").predictor == StatelessConfig(width=64)
    assert read("joiner.width=64").joiner == AdditiveConfig(width=64)
    chosen = read("predictor.kind=lstm", "predictor.layers=2", "joiner.kind=gated")
    assert (chosen.predictor, chosen.joiner) == (LstmConfig(layers=2), GatedConfig())
    with pytest.raises(ConfigError, match="lstm"):
        read("predictor.kind=gru")
    with pytest.raises(ConfigError, match=r"'context'.*not a known key.*Legal: dropout, kind, layers, width|context"):
        read("predictor.kind=lstm", "predictor.context=2")


def test_the_base_still_loads() -> None:
    model, _ = load_checkpoint(Path(__file__).parents[2] / "models" / "base")
    assert model.config.predictor == StatelessConfig(width=256, context=2, dropout=0.1)
    assert model.config.joiner == AdditiveConfig(width=256)
