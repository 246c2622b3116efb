"""What a batch costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.evaluation.metrics import edit_counts
from sayso.losses import (
    consistency_loss,
    ctc_loss,
    distillation_loss,
    lattice_distillation_loss,
    transducer_loss,
    transducer_loss_simple,
)
from sayso.losses.alignment import ctc_emission_frames
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.heads import HeadConfig
from sayso.models.joiners import JOINERS
from sayso.models.streaming import Context
from sayso.training.batches import PHONES_PER_FRAME, Batch, Item, collate
from sayso.training.labels import label_members
from sayso.training.lattice import (
    TRANSDUCER_LOSSES,
    AlignedConfig,
    FullConfig,
    LeanConfig,
    PrunedConfig,
    PrunedLoss,
    TransducerConfig,
)
from sayso.training.objective import Aids, Objective, objective
from sayso.training.recipe import LossWeights, TrainingConfig
from sayso.training.sequence import SequenceConfig, SequenceLoss

CONTEXT = Context(4, 16)


def _batch(phones: bytes = b"") -> Batch:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(frames, 80)).astype(np.float32) for frames in (160, 97)]
    return collate(rows, [Item(0, 0, 160, (3, 4, 4, 5), phones=phones), Item(0, 1, 97, (6,))])


def _config(layers: int) -> ModelConfig:
    encoder = ConformerConfig(channels=24, width=32, layers=layers, heads=2, feedforward=48, kernel=5, dropout=0.0)
    return ModelConfig(vocab=30, encoder=encoder)


def test_intermediate_is_the_loss_of_the_encoder_cut_in_half() -> None:
    torch.manual_seed(0)
    deep, shallow = _config(6).build().eval(), _config(3).build().eval()
    shallow.load_state_dict(deep.state_dict(), strict=False)
    batch = _batch()
    losses = Objective(deep, LossWeights(ctc=1.0, intermediate=0.3, transducer=0.0))(batch, (4, 16))
    half = objective(shallow, batch, CONTEXT, LossWeights(ctc=1.0, transducer=0.0))
    assert losses["intermediate"].item() == pytest.approx(half["ctc"].item(), rel=1e-6)
    assert losses["intermediate"].item() != pytest.approx(losses["ctc"].item(), rel=1e-3)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.3 * losses["intermediate"]).item(), rel=1e-6)


def test_intermediate_trains_the_lower_half_alone() -> None:
    torch.manual_seed(0)
    model = _config(4).build()
    losses = objective(model, _batch(), CONTEXT, LossWeights(ctc=1.0, intermediate=1.0, transducer=0.0))
    losses["intermediate"].backward()  # type: ignore[no-untyped-call]
    moved = [
        any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in x.parameters()) for x in model.encoder.layers
    ]
    assert moved == [True, True, False, False]


def test_a_head_of_two_rows_is_judged_on_both_and_tags_stand_on_frames() -> None:
    torch.manual_seed(0)
    heads = HeadConfig(intents=("on",), tags=("O", "B-area", "I-area"), width=16)
    model = _config(2).model_copy(update={"ctc_rate": 2, "heads": heads}).build().eval()
    labels = tuple(range(3, 28))  # more than the 20 frames of 160 features
    features = [np.random.default_rng(0).normal(size=(160, 80)).astype(np.float32)]
    batch = collate(features, [Item(0, 0, 160, labels, intent=0, tags=(0,) * 25)])
    losses = objective(model, batch, CONTEXT, LossWeights(ctc=1.0, transducer=0.0, intermediate=0.3))
    log_probs = model.ctc(model.encoder(batch.features, batch.lengths, CONTEXT)[0])
    assert log_probs.shape[1] == 40
    expected = functional.ctc_loss(log_probs.transpose(0, 1), batch.targets, [40], [25], reduction="sum") / 25
    assert losses["ctc"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(value.isfinite() for value in losses.values()) and losses["slots"] > 0


def test_phones_are_judged_on_the_middle_layer_by_a_head_of_their_own() -> None:
    torch.manual_seed(0)
    module = Objective(_config(4).build(), LossWeights(ctc=1.0, phones=0.5, transducer=0.0))
    batch = _batch(bytes([3] * 80 + [7] * 80))
    losses = module(batch, (4, 16))
    passed: list[Tensor] = []
    module.model.encoder(batch.features, batch.lengths, CONTEXT, passed)
    assert module.phones is not None
    logits = module.phones(passed[1])[0].unflatten(1, (PHONES_PER_FRAME, -1)).log_softmax(-1)
    expected = -(logits[:10, :, 3].sum() + logits[10:, :, 7].sum()) / 40  # the second clip has no alignment
    assert losses["phones"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.5 * losses["phones"]).item(), rel=1e-6)
    assert not any("phones" in name for name in module.model.state_dict())


def test_clips_without_alignments_do_without() -> None:
    module = Objective(_config(2).build(), LossWeights(phones=0.5, transducer=0.0))
    assert "phones" not in module(_batch(), (4, 16))


def test_a_second_head_writes_the_phones_of_the_transcript() -> None:
    torch.manual_seed(0)
    model = _config(2).model_copy(update={"phones": True, "ctc_rate": 2}).build().eval()
    rows = [np.random.default_rng(0).normal(size=(frames, 80)).astype(np.float32) for frames in (160, 97)]
    batch = collate(rows, [Item(0, 0, 160, (3, 4), pronounced=(7, 7, 1)), Item(0, 1, 97, (6,))])
    weights = LossWeights(ctc=1.0, phone_ctc=0.5, intermediate=0.3, transducer=0.0)
    losses = Objective(model, weights)(batch, (4, 16))
    passed: list[Tensor] = []
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT, passed)
    assert model.phones is not None and model.phones(encoded).shape == (2, 40, 40)
    of = [ctc_loss(model.phones(x)[:1], torch.tensor([[7, 7, 1]]), 2 * frames[:1], torch.tensor([3])) / 3
          for x in (encoded, passed[0])]  # fmt: skip
    assert losses["phone_ctc"].item() == pytest.approx(of[0].item(), rel=1e-6)  # the row without phones does not count
    pieces = objective(model, batch, CONTEXT, LossWeights(ctc=1.0, intermediate=0.3, transducer=0.0))
    assert losses["intermediate"].item() == pytest.approx((pieces["intermediate"] + of[1]).item(), rel=1e-6)
    assert "phone_ctc" not in pieces
    losses["total"].backward()
    assert float(model.phones.out.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_consistency_is_of_neighbouring_rows_and_per_label() -> None:
    torch.manual_seed(0)
    model = _config(2).build().eval()
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(frames, 80)).astype(np.float32) for frames in (160, 160, 97, 97)]
    clips = [Item(0, 0, 160, (3, 4, 4, 5)), Item(0, 1, 97, (6,))]
    batch = collate(rows, [clips[0], clips[0], clips[1], clips[1]])
    losses = Objective(model, LossWeights(ctc=1.0, consistency=0.2, transducer=0.0))(batch, (4, 16))
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT)
    heard = model.ctc(encoded)
    each = [consistency_loss(heard[i : i + 1], heard[i + 1 : i + 2], frames[i : i + 1]) for i in (0, 2)]
    assert losses["consistency"].item() == pytest.approx((each[0] / 4 + each[1]).item() / 2, rel=1e-5)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.2 * losses["consistency"]).item(), rel=1e-6)
    same = collate([rows[0], rows[0]], [clips[0], clips[0]])
    alike = objective(model, same, CONTEXT, LossWeights(ctc=1.0, consistency=0.2, transducer=0.0))
    assert alike["consistency"].item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_is_followed_below_the_last_layer_by_a_head_of_its_own() -> None:
    torch.manual_seed(0)
    module = Objective(_config(4).build(), LossWeights(ctc=1.0, teacher=0.5, transducer=0.0), teacher_width=3)
    batch = _batch()
    batch.teacher = torch.full((2, 20, 3), torch.nan)
    batch.teacher[0, :18] = torch.randn(18, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    losses = module(batch, (4, 16))
    passed: list[Tensor] = []
    module.model.encoder(batch.features, batch.lengths, CONTEXT, passed)
    assert module.teacher is not None
    known = batch.teacher[0, :18]
    target = (known - known.mean(0)) / (known.var(0, unbiased=False) + 1e-5).sqrt()
    expected = (module.teacher(passed[2])[0, :18] - target).square().mean()
    assert losses["teacher"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.5 * losses["teacher"]).item(), rel=1e-6)
    losses["teacher"].backward()
    moved = [
        any(p.grad is not None and bool(p.grad.any()) for p in x.parameters()) for x in module.model.encoder.layers
    ]
    assert moved == [True, True, True, False]
    assert not any("teacher" in name for name in module.model.state_dict())
    assert "teacher" not in module(_batch(), (4, 16))


def test_distil_is_the_divergence_from_a_teacher_of_the_same_tokens_where_it_is_known() -> None:
    torch.manual_seed(0)
    model = _config(2).model_copy(update={"ctc_rate": 2}).build().eval()
    module = Objective(model, LossWeights(ctc=1.0, distil=0.5, distil_temperature=2.0, transducer=0.0))
    batch = _batch()
    told = torch.randn(18, 2, 30).log_softmax(2)
    batch.teacher = torch.full((2, 20, 60), torch.nan)
    batch.teacher[0, :18] = told.flatten(1)
    losses = module(batch, (4, 16))
    heard = model.ctc(model.encoder(batch.features, batch.lengths, CONTEXT)[0])[:1, :36]
    expected = distillation_loss(heard, told.flatten(0, 1)[None], 2.0)
    assert losses["distil"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.5 * losses["distil"]).item(), rel=1e-6)
    assert "teacher" not in losses and "distil" not in module(_batch(), (4, 16))
    with pytest.raises(ValueError, match="'teacher' learns features, 'distil'"):
        TrainingConfig(weights=LossWeights(teacher=1.0, distil=1.0))


def test_distil_transducer_is_the_divergence_of_the_lattices_of_rows_that_were_lent() -> None:
    torch.manual_seed(0)
    model, lender = _config(2).build().eval(), _config(2).build().eval()
    weights = LossWeights(ctc=1.0, transducer=0.0, transducer_share=1.0, distil_transducer=0.1)
    module = Objective(model, weights, aids=Aids(lender=lender))
    batch = _batch()
    lent = torch.randn(20, lender.encoder.width)
    batch.teacher = torch.full((2, 20, lender.encoder.width), torch.nan)
    batch.teacher[0] = lent
    losses = module(batch, (4, 16))
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT)
    count, labels = int(frames[0]), batch.target_lengths[:1]
    targets = batch.targets[:1, : int(labels)]
    both = [x.joiner(e, x.predictor(targets)) for x, e in ((model, encoded[:1, :count]), (lender, lent[None]))]
    expected = lattice_distillation_loss(both[0], both[1], targets, frames[:1], labels) / labels
    assert losses["distil_transducer"].item() == pytest.approx(expected.item(), rel=1e-5) and expected.item() > 0.01
    total = losses["ctc"] + 0.1 * losses["distil_transducer"]
    assert losses["total"].item() == pytest.approx(total.item(), rel=1e-6) and "transducer" not in losses
    losses["distil_transducer"].backward()
    assert all(p.grad is None for p in lender.parameters())
    grads = [p.grad for part in (model.encoder, model.joiner, model.predictor) for p in part.parameters()]
    assert any(g is not None and bool(g.any()) for g in grads) and all(g is None or g.isfinite().all() for g in grads)
    assert len(list(module.parameters())) == len(list(model.parameters()))  # the teacher is not learnt
    assert "distil_transducer" not in module(_batch(), (4, 16))
    batch.teacher = torch.full_like(batch.teacher, torch.nan)
    assert "distil_transducer" not in module(batch, (4, 16))


def test_no_loss_changes_another() -> None:
    torch.manual_seed(0)
    model, batch = _config(2).build().eval(), _batch()
    names = {"ctc": 1.0, "sequence": 0.1, "intermediate": 0.1}
    apart = objective(model, batch, CONTEXT, LossWeights(**names, transducer=0.0))
    for share in (0.1, 1.0):
        torch.manual_seed(0)
        beside = objective(model, batch, CONTEXT, LossWeights(**names, transducer=0.4, transducer_share=share))
        assert beside["transducer"].item() > 0
        for name in apart:
            assert beside[name].item() == pytest.approx(apart[name].item(), rel=1e-6), name


def test_without_weight_there_is_no_second_loss() -> None:
    assert "intermediate" not in objective(_config(2).build(), _batch(), CONTEXT, LossWeights(transducer=0.0))


def _transducer(config: TransducerConfig, model: SpeechModel) -> tuple[Tensor, dict[str, Tensor], Objective]:
    """The loss, its gradients on the whole model, and the objective that gave them; predictor dropout is off."""
    torch.manual_seed(1)
    module = Objective(model.eval(), LossWeights(ctc=0.0, transducer=1.0, transducer_share=1.0), config)
    model.zero_grad()
    loss = module(_batch(), (4, 16))["transducer"]
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, module


@pytest.mark.parametrize("joiner", sorted(JOINERS))
@pytest.mark.parametrize("fastemit", [0.0, 0.2])
def test_lean_trains_as_full_does(joiner: str, fastemit: float) -> None:
    torch.manual_seed(0)
    model = _config(2).model_copy(update={"joiner": JOINERS[joiner](width=16)}).build()
    full, wanted, _ = _transducer(FullConfig(fastemit=fastemit), model)
    lean, found, module = _transducer(LeanConfig(fastemit=fastemit), model)
    torch.testing.assert_close(lean, full)
    assert found.keys() == wanted.keys() and {name.split(".")[0] for name in found} == {
        "encoder",
        "predictor",
        "joiner",
    }
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not list(module.transducer.parameters())
    if fastemit:  # the value is the likelihood's, the gradient is not
        plain, gradients, _ = _transducer(FullConfig(), model)
        torch.testing.assert_close(plain, full)
        assert not torch.allclose(gradients["joiner.out.bias"], wanted["joiner.out.bias"], rtol=1e-2)


def test_lean_trains_as_full_does_in_bf16() -> None:
    torch.manual_seed(0)
    model = _config(2).build()
    with torch.autocast("cpu", torch.bfloat16):
        full, wanted, _ = _transducer(FullConfig(), model)
        lean, found, _ = _transducer(LeanConfig(), model)
    assert lean.item() == pytest.approx(full.item(), rel=1e-3)
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).norm()) <= 0.03 * float(gradient.norm()) + 1e-5, name


@pytest.mark.parametrize("fastemit", [0.0, 0.2])
def test_pruned_to_everything_is_full_and_the_simple_joiners_share(fastemit: float) -> None:
    torch.manual_seed(0)
    model, batch = _config(2).build(), _batch()
    full, wanted, _ = _transducer(FullConfig(fastemit=fastemit), model)
    pruned, found, module = _transducer(PrunedConfig(band=5, simple=0.3, fastemit=fastemit), model)
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT)
    part = module.transducer
    assert isinstance(part, PrunedLoss)
    am, lm = part.heard(encoded), part.expected(model.predictor(batch.targets))
    each = transducer_loss_simple(am, lm, batch.targets, frames, batch.target_lengths, reduction="none")
    simple = 0.3 * (each / batch.target_lengths).mean()
    torch.testing.assert_close(pruned, full + simple)
    learnt = {name: p.grad.clone() for name, p in part.named_parameters() if p.grad is not None}
    model.zero_grad()
    part.zero_grad()
    simple.backward()
    for name, p in model.named_parameters():
        if name in found:
            expected = wanted[name] if p.grad is None else wanted[name] + p.grad
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
    assert len(learnt) == 4
    torch.testing.assert_close(learnt, {name: p.grad for name, p in part.named_parameters()}, rtol=1e-4, atol=1e-6)


def test_a_narrow_band_prunes_and_the_simple_joiner_is_left_behind() -> None:
    torch.manual_seed(0)
    model = _config(2).build()
    full, _, _ = _transducer(FullConfig(), model)
    narrow, _, module = _transducer(PrunedConfig(band=2, simple=1e-9), model)
    assert narrow.item() > full.item() + 1e-3
    assert not any("transducer" in name for name in module.model.state_dict())
    assert sum("transducer" in name for name in module.state_dict()) == 4


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_LOSSES))
def test_transducer_settings_are_data(kind: str) -> None:
    config = TRANSDUCER_LOSSES[kind](fastemit=0.01)
    assert TrainingConfig(transducer=config.model_dump()).transducer == config
    assert TrainingConfig(transducer={"fastemit": 0.01}).transducer == FullConfig(fastemit=0.01)


def test_coarse_and_fine_intents_in_one_batch_and_smoothing() -> None:
    torch.manual_seed(0)
    heads = HeadConfig(intents=("on", "off", "lock"), tags=("O", "B-area"), width=16)
    model = _config(2).model_copy(update={"heads": heads}).build().eval()
    rows = [np.random.default_rng(i).normal(size=(97, 80)).astype(np.float32) for i in range(3)]
    tags = [(0, 1), (1,), ()]
    clips = [Item(0, i, 97, (3, 4)[: 2 - (i == 1)], intent, tags[i]) for i, intent in enumerate((4, 2, -1))]
    batch = collate(rows, clips)
    coarse = {"light": ("on", "off")}
    aids = Aids(members=torch.from_numpy(label_members(coarse, heads)), smoothing=0.1)
    weights = LossWeights(ctc=1.0, transducer=0.0)
    losses = Objective(model, weights, aids=aids)(batch, (4, 16))
    assert model.intent is not None
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT)
    p = model.intent(encoded, frames).exp().double()
    either = -0.9 * (p[0, 0] + p[0, 1]).log() - 0.1 * p[0].log().mean()
    fine = -0.9 * p[1, 2].log() - 0.1 * p[1].log().mean()
    assert losses["intent"].item() == pytest.approx(((either + fine) / 2).item(), rel=1e-5)
    plain = Objective(model, weights)(collate(rows[1:], clips[1:]), (4, 16))
    smooth = Objective(model, weights, aids=aids)(collate(rows[1:], clips[1:]), (4, 16))
    assert plain["intent"].item() == pytest.approx(-p[1, 2].log().item(), rel=1e-5)
    assert model.slots is not None
    at = ctc_emission_frames(model.ctc(encoded), batch.targets, frames, batch.target_lengths)
    states = encoded.gather(1, at[:, :, None].expand(-1, -1, encoded.shape[2]))
    said = model.slots(states, batch.targets, batch.target_lengths).log_softmax(2)
    assert plain["slots"].item() == pytest.approx(-said[1, 0, 1].item(), rel=1e-5)
    expected = -0.9 * said[1, 0, 1] - 0.1 * said[1, 0].mean()  # padding, and what has no tags, is ignored
    assert smooth["slots"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("of", ["ctc", "transducer"])
def test_sequence_is_expected_errors_over_the_best_hypotheses(of: str) -> None:
    torch.manual_seed(0)
    model, batch = _config(2).build().eval(), _batch()
    loss = SequenceLoss(SequenceConfig(of=of, nbest=3))
    weights = LossWeights(ctc=0.0, transducer=0.0, sequence=1.0)
    losses = Objective(model, weights, aids=Aids(loss))(batch, (4, 16))
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT)
    log_probs = model.ctc(encoded)
    found = []
    for clip, said in enumerate(((3, 4, 4, 5), (6,))):
        mine = log_probs[clip : clip + 1, : int(frames[clip])]
        search = CtcBeamConfig(beam=6, nbest=3, commit_frames=None).build()
        best = search.finish(search.step(search.start(), mine[0].detach().numpy()))[0]
        assert len(best) == 3
        scores = []
        for hypothesis in best:
            tokens, sizes = torch.tensor([hypothesis.tokens], dtype=torch.int64), frames[clip : clip + 1]
            count = torch.tensor([len(hypothesis.tokens)])
            if of == "ctc":
                scores.append(-ctc_loss(mine, tokens, sizes, count))
            else:
                logits = model.joiner(encoded[clip : clip + 1, : int(sizes)], model.predictor(tokens))
                scores.append(-transducer_loss(logits, tokens, sizes, count))
        errors = [edit_counts(said, hypothesis.tokens).errors for hypothesis in best]
        p = torch.stack(scores).softmax(0)
        found.append(sum(a * (b - sum(errors) / 3) for a, b in zip(p, errors, strict=True)))
    assert losses["sequence"].item() == pytest.approx((sum(found) / 2).item(), rel=1e-4, abs=1e-5)
    losses["total"].backward()
    learnt = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learnt == ({"encoder", "ctc"} if of == "ctc" else {"encoder", "predictor", "joiner"})


@pytest.mark.parametrize("rate", [1, 2])
def test_aligned_is_full_within_the_band_that_ctc_hears(rate: int) -> None:
    torch.manual_seed(0)
    model, batch = _config(2).model_copy(update={"ctc_rate": rate}).build(), _batch()
    full, wanted, _ = _transducer(FullConfig(), model)
    wide, found, _ = _transducer(AlignedConfig(before=None, after=None), model)
    torch.testing.assert_close(wide, full)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    narrow, gradients, _ = _transducer(AlignedConfig(before=1, after=1), model)
    assert narrow > full and not any(name.startswith("ctc") for name in gradients)
    encoded, frames = model.encoder(batch.features, batch.lengths, CONTEXT)
    rows = ctc_emission_frames(model.ctc(encoded), batch.targets, frames * rate, batch.target_lengths) // rate
    frame = torch.arange(encoded.shape[1])[None, :, None]
    allowed = (frame - rows[:, None]).abs() <= 1
    each = transducer_loss(
        model.joiner(encoded, model.predictor(batch.targets)),
        batch.targets,
        frames,
        batch.target_lengths,
        reduction="none",
        allowed=allowed,
    )
    torch.testing.assert_close(narrow, (each / batch.target_lengths).mean())


def test_a_stage_learns_what_it_weighs_and_nothing_else() -> None:
    torch.manual_seed(0)
    heads = HeadConfig(intents=("on",), width=16)
    model = _config(2).model_copy(update={"heads": heads}).build().eval()
    module = Objective(model, LossWeights(phones=0.5, intermediate=0.3))
    stage = LossWeights(ctc=0.0, transducer=0.0, intent=2.0)
    module.enter(stage)
    rows = [np.random.default_rng(0).normal(size=(97, 80)).astype(np.float32)]
    known = collate(rows, [Item(0, 0, 97, (3,), 0, phones=bytes([3] * 97))])
    losses = module(known, (4, 16))
    assert set(losses) == {"ctc", "intent", "total"}
    assert losses["total"].item() == pytest.approx(2 * losses["intent"].item(), rel=1e-6)
    nothing = module(collate(rows, [Item(0, 0, 97, (3,))]), (4, 16))
    assert nothing["total"].item() == 0.0 and nothing["total"].requires_grad
