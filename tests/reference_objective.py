"""The objective and one step of training, written out from the paper's equations and the config alone, in float64

Plain and slow: loops over tokens and features, torch's own gradients, nothing of the library but the settings. Numbers
in comments are the paper's; where it is silent, they name the section of the notebook that says the reading.

Parameters and state are mappings with the names of the library's `state_dict`s: `sae.decoder_weight`,
`objective.margin.mean`. A setting that is not known here is refused, so that no variant goes without a reference.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tsae_nb.config import SAEConfig, TrainingConfig

SILENT = 100_000  # tokens after which a feature is shown as dead
KNOWN: dict[str, str] = {  # the settings that this reference reads (or that may not change a number)
    "SAEConfig": "variant dictionary_size subtract_decoder_bias sparse_code sparsity dead_features temporal_encoder "
                 "consistency tracker margin adversary router nested contrast temporal_code prediction",
    "SparseCodeConfig": "kind active threshold_decay bandwidth initial_threshold",
    "SparsityConfig": "weight",
    "DeadFeaturesConfig": "after_tokens auxiliary_features weight",
    "TemporalEncoderConfig": "convolution kernel attention heads causal residual start checkpointing",
    "ConsistencyConfig": "kind temperature candidates weight",
    "TrackerConfig": "layers weight",
    "MarginConfig": "decay deviations weight block",
    "AdversaryConfig": "percentile threshold base floor block",
    "RouterConfig": "shares entropy_weight",
    "PredictionConfig": "heads bottleneck",
    "NestedConfig": "shares weights",
    "ContrastConfig": "weight temperature partner negatives",
    "TemporalCodeConfig": "taps steps",
}


def check_known(settings: Any) -> None:
    """Refuse settings that nobody has written out here."""
    kind = type(settings).__name__
    unknown = {item.name for item in dataclasses.fields(settings)} - set(KNOWN.get(kind, "").split())
    assert not unknown, f"{kind} has settings without a reference: {sorted(unknown)}; write them out in {__file__}"
    for item in dataclasses.fields(settings):
        if dataclasses.is_dataclass(value := getattr(settings, item.name)):
            check_known(value)


@dataclass
class Found:
    """What the reference says of one step."""

    values: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    monitors: dict[str, float] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)  # of what has moved
    codes: Tensor = torch.empty(0)
    predicted: Tensor | None = None  # codes beside them
    reconstruction: Tensor = torch.empty(0)
    closest: float = math.inf  # the smallest distance of a number from a decision on it, relative to such numbers

    def loss(self) -> Tensor:
        """Eq. 8 = 16: the weighted sum."""
        return sum((self.weights[name] * value for name, value in self.values.items()), torch.zeros(()).double())

    def above(self, numbers: Tensor, bound: Tensor | float) -> Tensor:
        """numbers > bound, remembering how close it was; exact equality is no accident."""
        gap = (numbers - bound).detach().abs()
        if (gap > 0).any():
            self.closest = min(self.closest, float(gap[gap > 0].min() / numbers.detach().abs().max()))
        return numbers.detach() > bound

    def largest(self, numbers: Tensor, count: int) -> Tensor:
        """A mask of the `count` largest of the numbers (any shape)."""
        flat = numbers.detach().flatten()
        order = flat.argsort(descending=True)
        mask = torch.zeros_like(flat, dtype=torch.bool)
        mask[order[:count]] = True
        if 0 < count < len(flat):
            self.closest = min(self.closest, float((flat[order[count - 1]] - flat[order[count]]) / flat.abs().max()))
        return mask.view_as(numbers)


class Reference:
    """One SAE and its objective; `parameters` are float64 leaves, `state` holds the buffers before the step."""

    def __init__(self, config: SAEConfig, parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]):
        check_known(config)
        self.config, self.parameters, self.before = config, parameters, state

    def p(self, name: str) -> Tensor:
        return self.parameters[name]

    # -- temporal encoder, eq. 1, 2, 9, 10 -------------------------------------------------------------------------
    def temporal_stream(self, x: Tensor, valid: Tensor, documents: Tensor, found: Found) -> Tensor:
        config = self.config.temporal_encoder
        assert config is not None
        x = torch.where(valid[:, :, None], x, 0.0)
        width, tokens = x.shape[2], x.shape[1]
        before = config.kernel - 1 if config.causal else (config.kernel - 1) // 2

        def reads(row: int, reader: int, read: int) -> bool:
            if not 0 <= read < tokens or (config.causal and read > reader):
                return False
            return bool(valid[row, reader] and valid[row, read] and documents[row, reader] == documents[row, read])

        def convolution(rows: Tensor, name: str) -> Tensor:  # eq. 9, kernel 3, its padding left of the token if causal
            weight, bias = self.p(f"{name}.weight"), self.p(f"{name}.bias")
            out = []
            for row in range(len(rows)):
                for token in range(tokens):
                    total = bias
                    for place in range(config.kernel):
                        other = token + place - before
                        if reads(row, token, other):
                            total = total + rows[row, other] @ weight[place * width : (place + 1) * width]
                    out.append(total)
            return torch.stack(out).view_as(rows)

        def attention(rows: Tensor, name: str) -> Tensor:  # eq. 10
            projections, size = self.p(f"{name}.projections"), width // config.heads
            query, key, value = (rows @ projections[:, i * width : (i + 1) * width] for i in range(3))
            out = []
            for row in range(len(rows)):
                for token in range(tokens):
                    readable = [other for other in range(tokens) if reads(row, token, other)] or [token]
                    heads = []
                    for head in range(config.heads):
                        here = slice(head * size, (head + 1) * size)
                        scores = key[row, readable, here] @ query[row, token, here] / math.sqrt(size)
                        heads.append(scores.softmax(0) @ value[row, readable, here])
                    out.append(torch.cat(heads))
            read = torch.stack(out).view_as(rows)
            return read @ self.p(f"{name}.output") if config.residual else read

        stream = x
        if config.convolution:
            first = convolution(stream, "sae.temporal_encoder.first_convolution")
            positive = found.above(first[valid], 0.0)
            cut = torch.zeros_like(first)
            cut[valid] = first[valid] * positive
            stream = convolution(cut, "sae.temporal_encoder.second_convolution")
        if config.attention:
            stream = attention(torch.where(valid[:, :, None], stream, 0.0), "sae.temporal_encoder.attention")
        if config.residual and (config.convolution or config.attention):
            stream = stream + x
        return torch.where(valid[:, :, None], stream, 0.0)

    # -- sparse codes: (codes before a gate, JumpReLU's steps) -----------------------------------------------------
    def activated(self, pre: Tensor, level: int, active: int | None, training: bool, found: Found
                  ) -> tuple[Tensor, Tensor]:
        config, name = self.config.sparse_code, f"sae.sparse_codes.{level}"
        steps = torch.zeros(()).double()
        if config.kind == "relu":
            keep = found.above(pre, 0.0)
        elif config.kind == "topk":
            assert active is not None
            keep = torch.stack([found.largest(row, active) for row in pre]) & found.above(pre, 0.0)
        elif config.kind == "batch_topk":
            assert active is not None
            if training:
                keep = found.largest(pre, round(active * len(pre))) & found.above(pre, 0.0)
                # the threshold at inference: a moving average of the smallest active value, young at first
                seen, old = int(self.before[f"{name}.batches_seen"]), self.before[f"{name}.threshold"]
                decay = min(seen / (9 + seen), config.threshold_decay)
                if keep.any():
                    smallest = pre.detach()[keep].min()
                    found.state[f"{name}.threshold"] = decay * old + (1 - decay) * smallest
                    found.state[f"{name}.batches_seen"] = torch.tensor(seen + 1)
            else:
                keep = found.above(pre, self.before[f"{name}.threshold"]) & found.above(pre, 0.0)
        elif config.kind == "gated":
            # π = W (x − b_dec) + b_gate, z = H(π) ReLU(e^r W (x − b_dec) + b_mag) (Rajamanoharan et al. 2024a)
            gain, own = self.p(f"{name}.log_gain").exp(), self.p(f"{name}.magnitude_bias")
            magnitude = self.seen @ (gain[:, None] * self.p("sae.encoder_weight")).T + own
            opened = found.above(pre, 0.0)
            self.opening = pre * opened
            return magnitude * (found.above(magnitude, 0.0) & opened), steps
        else:
            assert config.kind == "jumprelu", f"no reference for codes of kind {config.kind!r}"
            # z = x·H(x − θ); for θ the step has the derivative −1/ε within ε/2 of θ (Rajamanoharan et al. 2024b)
            threshold, width = self.p(f"{name}.threshold"), config.bandwidth
            keep = found.above(pre, threshold.detach())
            lower = found.above(pre, threshold.detach() - width / 2)
            upper = found.above(pre, threshold.detach() + width / 2)
            inside = (lower & ~upper).double()
            change = threshold - threshold.detach()  # 0, with the gradient of θ
            steps = (keep.double() - inside / width * change).sum()
            return pre * keep - threshold.detach() / width * inside * change, steps
        return pre * keep, steps

    def shared_out(self, total: int) -> list[int]:
        """Largest remainder over the shares of levels (low to high, paper 4) or of nested groups (notebook 18)."""
        settings = self.config.router or self.config.nested
        assert settings is not None
        shares = settings.shares
        exact = [total * share / sum(shares) for share in shares]
        sizes = [math.floor(size) for size in exact]
        while sum(sizes) < total:
            level = max(range(len(sizes)), key=lambda one: (exact[one] - sizes[one], -one))
            sizes[level] += 1
        return sizes

    def groups(self) -> dict[str, slice]:
        """The features of each named group, one after the other."""
        config, parts = self.config, [] if self.config.nested is None else list(self.config.nested.shares)
        names = ["high", "low"] if len(parts) == 2 else [f"part{1 + number}" for number in range(len(parts))]
        names = names if config.router is None else ["level1", "level2", "level3"]
        ends = [0, *itertools.accumulate(self.shared_out(config.dictionary_size) if names else [])]
        return {name: slice(*within) for name, within in zip(names, itertools.pairwise(ends), strict=True)}

    # -- one forward pass -------------------------------------------------------------------------------------------
    def forward(self, x: Tensor, valid: Tensor, documents: Tensor, training: bool = True) -> Found:
        """Of scaled rows (B, T, d): codes, reconstruction, gates, stream and the sparsity penalty."""
        config, found = self.config, Found()
        decoder, bias = self.p("sae.decoder_weight"), self.p("sae.decoder_bias")
        if config.prediction is None:
            encoder, encoder_bias = self.p("sae.encoder_weight"), self.p("sae.encoder_bias")
        else:  # tied
            encoder = self.p("sae.prediction.log_gain").exp()[:, None] * decoder
            encoder_bias = torch.zeros(len(encoder)).double()
        self.encoder, self.encoder_bias = encoder, encoder_bias
        here = x[valid]
        self.seen = here - bias if config.subtract_decoder_bias else here  # what the encoder reads, and the router
        if config.temporal_encoder is not None:
            stream = self.temporal_stream(x - bias if config.subtract_decoder_bias else x, valid, documents, found)
            self.seen = stream[valid]
        self.here, tokens = here, len(here)
        of_past = torch.zeros(())
        if config.prediction is not None:
            found.predicted, self.seen = self.of_past(self.seen, valid, documents, found)
            of_past = found.predicted @ decoder
        pre = self.seen @ encoder.T + encoder_bias
        if config.temporal_code is not None:
            pre = self.looked(encoder, encoder_bias, valid, documents, training, found)
        active = config.sparse_code.active
        self.gates: Tensor | None = None
        if config.router is None:
            codes, steps = self.activated(pre, 0, active, training, found)
            found.codes, found.reconstruction = codes, codes @ decoder + of_past + bias
        else:
            found.codes, found.reconstruction, steps = self.routed(pre, self.seen, here, training, found)
        # L_sparse = mean over tokens of ‖z‖₁ (3.2), or the expected L0, or of ‖ReLU(π)‖₁
        charged = {"jumprelu": lambda: steps, "gated": lambda: self.opening.sum()}
        penalty = charged.get(config.sparse_code.kind, found.codes.sum)()
        self.sparsity = penalty / max(tokens, 1)
        return found

    def of_past(self, x: Tensor, valid: Tensor, documents: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """TFA: (z_pred = p z̃, what it leaves of x), p = ⟨z̃D, x⟩/‖z̃D‖², z̃ = relu(attention over 0, z_1, …, z_{t−1})."""
        config, name, decoder = self.config.prediction, "sae.prediction", self.p("sae.decoder_weight")
        assert config is not None
        pre = x @ self.encoder.T
        codes = pre * found.above(pre, 0.0)
        query, key, value = (codes @ self.p(f"{name}.{by}") for by in ("queries", "keys", "values"))
        places, narrow, many = valid.nonzero().tolist(), query.shape[1] // config.heads, len(decoder) // config.heads
        assert narrow == max(1, len(decoder) // config.bottleneck // config.heads)
        read = []
        for token, (row, column) in enumerate(places):
            before = [other for other, (its_row, its_column) in enumerate(places) if its_row == row
                      and its_column < column and documents[row, its_column] == documents[row, column]]
            heads = []
            for head in range(config.heads):
                few, own = (slice(head * size, (head + 1) * size) for size in (narrow, many))
                scores = key[before][:, few] @ query[token, few] / math.sqrt(narrow)
                shares = torch.cat([torch.zeros(1).double(), scores]).softmax(0)[1:]  # a zero stands before the first
                heads.append(shares @ value[before][:, own])
            read.append(torch.cat(heads))
        pre = (torch.stack(read) if read else value) @ self.p(f"{name}.output")
        mixed = pre * found.above(pre, 0.0)
        direction = mixed @ decoder
        p = (direction * x).sum(1, keepdim=True) / direction.square().sum(1, keepdim=True).clamp_min(1e-12)
        return p * mixed, x - p * direction

    # -- further looks (notebook 18b) -------------------------------------------------------------------------------
    def looked(self, encoder: Tensor, bias: Tensor, valid: Tensor, documents: Tensor, training: bool, found: Found
               ) -> Tensor:
        """u = f ∗ W_enc(x − b_dec) + b; p = λ u where above inference's threshold; u = p + f ∗ W(x − b_dec − pD) + b"""
        config, name = self.config.temporal_code, "sae.temporal_code"
        assert config is not None
        row, token = torch.nonzero(valid, as_tuple=True)
        of, taps = documents[valid], range(config.taps)
        self.reads = [[[other for other in range(len(of)) if row[other] == row[one] and of[other] == of[one]
                        and token[one] - token[other] == back] for one in range(len(of))] for back in taps]
        pre = self.answers(self.seen, encoder, bias, f"{name}.answers.filters")
        for step in range(config.steps):
            look = f"{name}.looks.{step}"
            if self.config.sparse_code.kind == "batch_topk":
                above = pre * (found.above(pre, self.before["sae.sparse_codes.0.threshold"]) & found.above(pre, 0.0))
            else:
                above, _ = self.activated(pre, 0, self.config.sparse_code.active, training, found)
            self.guess = self.p(f"{look}.trust").sigmoid() * above
            self.remainder = self.seen - self.guess @ self.p("sae.decoder_weight")
            pre = self.guess + self.answers(self.remainder, self.p(f"{look}.encoder"), self.p(f"{look}.bias"),
                                            f"{look}.answers.filters")
        return pre

    def answers(self, read: Tensor, encoder: Tensor, bias: Tensor, filters: str, features: Any = slice(None)) -> Tensor:
        """f ∗ W x + b: a filter for each feature over tokens of the same row and document, 0, 1, … before."""
        answers = read @ encoder.T
        if len(self.reads) == 1:  # one tap: no filter
            return answers + bias
        padded = torch.cat([answers, torch.zeros(1, len(bias)).double()])
        total = bias.expand_as(answers)
        for tap, others in zip(self.p(filters)[:, features], self.reads, strict=True):
            total = total + tap * padded[[other[0] if other else -1 for other in others]]
        return total

    def routed(self, pre: Tensor, stream: Tensor, here: Tensor, training: bool, found: Found
               ) -> tuple[Tensor, Tensor, Tensor]:
        """Coarse to fine (paper 4, 5.2, 6.1): z_l = gate_l · act(W_l x + V_l(h − ĥ_above)), gates as a softmax."""
        decoder, name = self.p("sae.decoder_weight"), "sae.router"
        beta, scores = self.p(f"{name}.level_bias"), self.p(f"{name}.scores")
        low, middle, high = sizes = self.shared_out(self.config.dictionary_size)
        active = self.config.sparse_code.active
        actives = [None] * 3 if active is None else self.shared_out(active)
        ends = [0, low, low + middle, sum(sizes)]
        self.levels = torch.tensor([1] * low + [2] * middle + [3] * high)
        one, two, three = (slice(ends[i], ends[i + 1]) for i in range(3))
        steps = torch.zeros(()).double()
        # level 3: e^{s₃+β₃} / (e^{s₃+β₃} + e^{β₁} + e^{β₂})
        own, others = (stream @ scores[1] + beta[2]).exp(), beta[0].exp() + beta[1].exp()
        gate3, remaining = own / (own + others), others / (own + others)
        z3, more = self.activated(pre[:, three], 2, actives[2], training, found)
        steps = steps + more
        z3 = gate3[:, None] * z3
        reconstruction = z3 @ decoder[three] + self.p("sae.decoder_bias")
        # level 2, of what remains: e^{s₂+β₂+q·left} / (… + e^{β₁})
        left = left2 = here - reconstruction
        own = (stream @ scores[0] + beta[1] + left @ self.p(f"{name}.left_score")).exp()
        gate2, gate1 = remaining * own / (own + beta[0].exp()), remaining * beta[0].exp() / (own + beta[0].exp())
        z2, more = self.activated(
            pre[:, two] + left @ self.p(f"{name}.left_encoder")[low:].T, 1, actives[1], training, found)
        steps = steps + more
        z2 = gate2[:, None] * z2
        reconstruction = reconstruction + z2 @ decoder[two]
        left = here - reconstruction
        self.left = torch.cat([left.expand(low, -1, -1), left2.expand(middle, -1, -1)])  # (features, tokens, d)
        z1, more = self.activated(
            pre[:, one] + left @ self.p(f"{name}.left_encoder")[:low].T, 0, actives[0], training, found)
        steps = steps + more
        z1 = gate1[:, None] * z1
        self.gates = torch.stack([gate1, gate2, gate3], 1)
        return torch.cat([z1, z2, z3], 1), reconstruction + z1 @ decoder[one], steps

    # -- the terms --------------------------------------------------------------------------------------------------
    def objective(self, x: Tensor, valid: Tensor, documents: Tensor, generator: torch.Generator) -> Found:
        """All terms of eq. 8 = 16 for scaled rows (B, T, d), and the state after them; `generator` draws negatives."""
        config = self.config
        found = self.forward(x, valid, documents)
        of_tokens, codes = documents[valid], found.codes
        error = found.reconstruction - self.here

        def add(name: str, value: Tensor, weight: float) -> None:
            found.values[name], found.weights[name] = value, float(weight)

        last = 1.0 if config.nested is None or config.nested.weights is None else config.nested.weights[-1]
        add("reconstruction", error.square().sum(1).mean(), last)  # L_recon, 3.2
        self.watch(found, error.detach())
        if config.nested is not None:
            add("nested", self.nested(codes), 1.0)
        if config.contrast is not None:
            add("contrast", self.contrast(codes, valid, documents, generator), config.contrast.weight)
        if config.sparsity is not None:
            add("sparsity", self.sparsity, config.sparsity.weight)
        if config.sparse_code.kind == "gated":  # what ReLU(π) reconstructs, the decoder and its bias being constants
            decoded = self.opening @ self.p("sae.decoder_weight").detach() + self.p("sae.decoder_bias").detach()
            add("gate", (self.here - decoded).square().sum(1).mean(), 1.0)
        pairs = adjacent(valid, documents)
        if config.consistency is not None:
            add("consistency", self.consistency(codes, pairs, of_tokens, generator), config.consistency.weight)
        if config.tracker is not None:
            assert config.consistency is not None
            add("evolution", self.evolution(found.reconstruction.detach(), pairs),
                config.consistency.weight * config.tracker.weight)
        similarities = self.similarities(found)
        margins = torch.zeros_like(similarities).detach()
        if config.margin is not None:
            margins = self.margins(similarities.detach(), found)
            add("margin", (similarities - margins).clamp_min(0).square().mean(), config.margin.weight)
            found.monitors["margins_broken"] = float(found.above(similarities, margins).double().mean())
        if config.adversary is not None:
            add("adversary", *self.adversary(error.detach(), similarities.detach(), margins, found))
        if config.router is not None:
            assert self.gates is not None
            mean = self.gates.mean(0)
            batch = -(mean * mean.log()).sum()
            add("routing_entropy", math.log(3) - batch, config.router.entropy_weight)
            found.monitors["routing_entropy_batch"] = float(batch.detach())
            found.monitors["routing_entropy_token"] = float(-(self.gates * self.gates.log()).sum(1).mean().detach())
        if config.dead_features is not None:
            add("auxiliary", self.auxiliary(error.detach(), found), config.dead_features.weight)
        return found

    def nested(self, codes: Tensor) -> Tensor:
        """Σ_g w_g E‖x − x̂_{≤g}‖² over all prefixes of the groups but the whole (Bussmann et al. 2025)."""
        config = self.config.nested
        assert config is not None
        decoder, sizes, total = self.p("sae.decoder_weight"), self.shared_out(self.config.dictionary_size), 0.0
        for number in range(1, len(sizes)):
            up_to = sum(sizes[:number])
            left = self.here - (codes[:, :up_to] @ decoder[:up_to] + self.p("sae.decoder_bias"))
            weight = 1.0 if config.weights is None else config.weights[number - 1]
            total = total + weight * left.square().sum(1).mean()
        return torch.as_tensor(total)

    def contrast(self, codes: Tensor, valid: Tensor, documents: Tensor, generator: torch.Generator) -> Tensor:
        """Symmetric InfoNCE of the first group's codes of tokens and earlier ones (Bhalla et al. 2026; notebook 18)."""
        config, whose, pairs = self.config.contrast, documents[valid], []
        assert config is not None
        high = codes[:, : self.shared_out(self.config.dictionary_size)[0]]
        if config.partner == "previous":
            pairs = adjacent(valid, documents)
        else:  # among the valid tokens of its row that come before it in its document
            assert config.partner == "earlier", f"no reference for the partner {config.partner!r}"
            places = [(int(row), int(column)) for row, column in valid.nonzero()]
            before = [[other for other in range(token)
                       if places[other][0] == places[token][0] and (whose[other:token] == whose[token]).all()]
                      for token in range(len(places))]
            readers = [token for token in range(len(places)) if before[token]]
            draws = torch.rand(len(readers), generator=generator, dtype=torch.float64).tolist()
            pairs = [(before[token][-1 - int(draw * len(before[token]))], token)
                     for token, draw in zip(readers, draws, strict=True)]

        def alike(token: int, other: int) -> Tensor:
            if config.temperature is None:
                return high[token] @ high[other]
            lengths = high[token].norm(), high[other].norm()
            cosine = high[token] @ high[other] / (lengths[0] * lengths[1]) if min(lengths) > 1e-6 else high.sum() * 0
            return cosine / config.temperature

        assert config.negatives in ("other_documents", "batch"), f"no reference for negatives {config.negatives!r}"
        total = codes.sum() * 0
        for i, (partner, token) in enumerate(pairs):
            rivals = [j for j, (_, other) in enumerate(pairs)
                      if j == i or config.negatives == "batch" or whose[other] != whose[token]]
            by_token = torch.stack([alike(token, pairs[j][0]) for j in rivals]).logsumexp(0)
            by_partner = torch.stack([alike(pairs[j][1], partner) for j in rivals]).logsumexp(0)
            total = total + (by_token + by_partner) / 2 - alike(token, partner)
        return total / max(len(pairs), 1)

    def consistency(self, codes: Tensor, pairs: list[tuple[int, int]], documents: Tensor, generator: torch.Generator
                    ) -> Tensor:
        """L_temp = E[1 − c(z_t, z_{t+1})] (3.2); c = (1 + cos)/2, or the softmax of cos/τ among candidates (5.1)."""
        config = self.config.consistency
        assert config is not None

        def cosine(one: int, other: int) -> Tensor:
            lengths = codes[one].norm(), codes[other].norm()
            return codes[one] @ codes[other] / (lengths[0] * lengths[1]) if min(lengths) > 1e-6 else codes.sum() * 0

        def uniform(count: int) -> Tensor:
            return torch.rand(count, generator=generator, dtype=torch.float64)

        chosen: list[float | Tensor] = []
        if config.kind == "cosine":
            chosen = [(1 + cosine(now, after)) / 2 for now, after in pairs]
        elif config.candidates == 2:  # one negative each: a place among the tokens of other documents
            order = sorted(range(len(codes)), key=lambda token: (int(documents[token]), token))
            for (now, after), draw in zip(pairs, uniform(len(pairs)).tolist(), strict=True):
                others = [token for token in order if documents[token] != documents[now]]
                if others:
                    negative = cosine(now, others[min(int(draw * len(others)), len(others) - 1)])
                    both = torch.stack([cosine(now, after), negative]) / config.temperature
                    chosen.append(both.softmax(0)[0])
        else:  # the first of a random order of all tokens
            assert config.kind == "contrastive", f"no reference for consistency of kind {config.kind!r}"
            order = uniform(len(codes)).argsort().tolist()
            for now, after in pairs:
                others = [token for token in order if documents[token] != documents[now]][: config.candidates - 1]
                if others:
                    scores = torch.stack([cosine(now, after), *(cosine(now, other) for other in others)])
                    chosen.append((scores / config.temperature).softmax(0)[0])
        if not chosen:
            return codes.sum() * 0
        return 1 - torch.stack(chosen).mean()  # type: ignore[arg-type]

    def evolution(self, decoded: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
        """A GRU of width d reads the decoded features and says the next token's: mean of 1 − cos (5.1)."""
        config, name = self.config.tracker, "objective.terms.evolution.tracker.gru"
        assert config is not None
        follows = {after: now for now, after in pairs}
        states: list[list[Tensor]] = []  # of each token: a hidden state a layer
        for token in range(len(decoded)):
            came, layers, below = follows.get(token), [], decoded[token]
            for layer in range(config.layers):
                to_input, to_hidden, of_input, of_hidden = (
                    self.p(f"{name}.{part}_l{layer}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
                hidden = torch.zeros_like(below) if came is None else states[came][layer]
                xr, xz, xn = (to_input @ below + of_input).chunk(3)
                hr, hz, hn = (to_hidden @ hidden + of_hidden).chunk(3)
                reset, update = (xr + hr).sigmoid(), (xz + hz).sigmoid()
                below = (1 - update) * (xn + reset * hn).tanh() + update * hidden
                layers.append(below)
            states.append(layers)
        if not pairs:
            return torch.zeros(()).double()
        distances = []
        for now, after in pairs:
            said, target = states[now][-1], decoded[after]
            distances.append(1 - said @ target / (said.norm() * target.norm()))
        return torch.stack(distances).mean()

    def similarities(self, found: Found) -> Tensor:
        """s_i = max_{j≠i} cos(W_i, W_j) (4.2)."""
        decoder = self.p("sae.decoder_weight")
        unit = decoder / decoder.norm(dim=1, keepdim=True)
        cosines = (unit @ unit.T) - 2 * torch.eye(len(unit)).double()
        if self.config.margin is not None or self.config.adversary is not None:
            best = cosines.detach().topk(2, dim=1).values
            found.closest = min(found.closest, 10 * float((best[:, 0] - best[:, 1]).min()))  # exact to 1e-7
        return cosines.max(1).values

    def margins(self, s: Tensor, found: Found) -> Tensor:
        """Eq. 3–5 = 11–13: μ ← αμ + (1−α)s; σ ← √(ασ² + (1−α)(s−μ)²) with the new μ; m = μ + 2σ."""
        config, name = self.config.margin, "objective.margin"
        assert config is not None
        mean, deviation = self.before[f"{name}.mean"], self.before[f"{name}.deviation"]
        mean = config.decay * mean + (1 - config.decay) * s if self.before[f"{name}.started"] else s
        deviation = (config.decay * deviation**2 + (1 - config.decay) * (s - mean) ** 2).sqrt()
        found.state |= {f"{name}.mean": mean, f"{name}.deviation": deviation, f"{name}.started": torch.tensor(True)}
        return mean + config.deviations * deviation

    def adversary(self, error: Tensor, s: Tensor, margins: Tensor, found: Found) -> tuple[Tensor, float]:
        """Eq. 6, 7 = 14, 15: S by the attribution's percentile, orthogonality in proportion to it, and λ3."""
        config, decoder = self.config.adversary, self.p("sae.decoder_weight")
        assert config is not None
        # A_i = ‖∂L_recon/∂z_i‖₂ over the tokens
        attributions = torch.stack([(2 / len(error) * error @ row).norm() for row in decoder.detach()])
        selected = torch.ones(len(decoder), dtype=torch.bool)
        if config.percentile is not None:
            ordered, place = attributions.sort().values, config.percentile / 100 * (len(attributions) - 1)
            below = math.floor(place)
            bound = ordered[below]
            if place > below:
                bound = bound + (place - below) * (ordered[below + 1] - bound)
            selected = found.above(attributions, bound)
        unit = decoder / decoder.norm(dim=1, keepdim=True)
        assert config.threshold in ("margin", "zero"), f"no reference for the threshold {config.threshold!r}"
        total, held = torch.zeros(()).double(), float(attributions[selected].sum())
        for i in torch.nonzero(selected).flatten().tolist():
            allowed = margins[i] if config.threshold == "margin" else torch.zeros(())
            for j in range(len(unit)):
                if j != i:
                    over = ((unit[i] @ unit[j].detach()).abs() - allowed).clamp_min(0) ** 2
                    total = total + attributions[i] / held * over  # = A_i / mean A_S, and the mean over S
        # λ3 = max(A_spurious − 0.5, 0.1), A_spurious the share of S's attribution on features that break their margin
        broken = found.above(s, margins)
        spurious = float(attributions[selected & broken].sum()) / held if held > 0 else 0.0
        found.monitors["attribution_spurious"] = spurious
        return total, max(spurious - config.base, config.floor)

    def auxiliary(self, error: Tensor, found: Found) -> Tensor:
        """AuxK (Gao et al. 2024): the share of the error's variance that the K largest dead features leave, times d and
        min(1, dead / K); they say what they would as living ones: their gates, what was left and what is read count,
        as constants."""
        config, name = self.config.dead_features, "objective.terms.auxiliary.reconstruction.tokens_since_active"
        assert config is not None
        fired = (found.codes.detach() > 0).any(0)
        silent = torch.where(fired, 0, self.before[name] + len(error))
        found.state[name] = silent
        dead = torch.nonzero(silent >= config.after_tokens).flatten()
        if len(dead) == 0:
            return torch.zeros(()).double()
        pre = self.seen.detach() @ self.encoder[dead].T + self.encoder_bias[dead]
        if (looks := self.config.temporal_code) is not None:  # in the last look
            last = f"sae.temporal_code.looks.{looks.steps - 1}"
            own, bias = (self.p(f"{last}.{part}")[dead] for part in ("encoder", "bias"))
            pre = self.guess.detach()[:, dead] + self.answers(
                self.remainder.detach(), own, bias, f"{last}.answers.filters", dead)
        if self.gates is not None:
            routed = []
            for column, feature in enumerate(dead.tolist()):
                own = pre[:, column]
                if feature < len(self.left):
                    own = own + self.left[feature].detach() @ self.p("sae.router.left_encoder")[feature]
                routed.append(own * self.gates[:, int(self.levels[feature]) - 1].detach())
            pre = torch.stack(routed, 1)
        count = config.auxiliary_features or max(1, error.shape[1] // 2)
        keep = torch.stack([found.largest(row, min(count, len(dead))) for row in pre]) & found.above(pre, 0.0)
        said = (pre * keep) @ self.p("sae.decoder_weight")[dead]
        target = -error  # x − x̂
        variance = (target - target.mean(0)).square().sum()
        return min(1, len(dead) / count) * error.shape[1] * (said - target).square().sum() / variance

    def watch(self, found: Found, error: Tensor) -> None:
        """The monitored quantities: momentum 0.99 (5.2); 0.9 for the moments that explained variance is made of."""
        name, tokens = "objective.activity", len(error)
        density = (found.codes.detach() > 0).double().mean(0)
        silent = torch.where(density > 0, 0, self.before[f"{name}.silent_for"] + tokens)
        batches = int(self.before[f"{name}.batches"]) + 1
        averaged = 0.99 * self.before[f"{name}.averaged"] + 0.01 * density
        found.state |= {f"{name}.silent_for": silent, f"{name}.averaged": averaged,
                        f"{name}.batches": torch.tensor(batches)}
        usual = averaged / (1 - 0.99**batches)
        squares = [each.square().sum(1).mean(0, keepdim=True) for each in (self.here, error)]
        here = torch.cat([self.here.mean(0), *squares])
        moments = 0.9 * self.before[f"{name}.moments"] + 0.1 * here
        found.state[f"{name}.moments"] = moments
        usual_moments = moments / (1 - 0.9**batches)
        variance = usual_moments[-2] - usual_moments[:-2].square().sum()
        found.monitors |= {
            "l0": float(density.sum()), "dead_features": float((silent >= SILENT).sum()),
            "explained_variance": float(1 - usual_moments[-1] / variance),
            **{f"density/{label}": float(torch.quantile(usual, share))
               for label, share in (("p10", 0.1), ("median", 0.5), ("p90", 0.9))},
        }
        for group, features in self.groups().items():
            found.monitors[f"l0/{group}"] = float(density[features].sum())
            found.monitors[f"dead_features/{group}"] = float((silent[features] >= SILENT).sum())


def adjacent(valid: Tensor, documents: Tensor) -> list[tuple[int, int]]:
    """(t, t + 1) in the list of valid tokens: neighbours in one row, both valid, of one document."""
    number, pairs = {place: index for index, place in enumerate(map(tuple, valid.nonzero().tolist()))}, []
    for row, column in number:
        after = (row, column + 1)
        if after in number and documents[row, column] == documents[after]:
            pairs.append((number[row, column], number[after]))
    return pairs


def rate(training: TrainingConfig, step: int) -> float:
    """Of a step (from 0): up over the warm-up, then constant, then down to zero over the last share of the steps."""
    value, falling = training.learning_rate, training.decay_fraction * training.steps
    if step < training.warmup_steps:
        value *= (step + 1) / training.warmup_steps
    if falling and training.steps - step < falling:
        value *= (training.steps - step) / falling
    return value


@dataclass
class Moments:
    """Adam's memory of one parameter."""

    steps: int
    first: Tensor
    second: Tensor


def updated(
    training: TrainingConfig, step: int, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None],
    moments: Mapping[str, Moments],
) -> tuple[dict[str, Tensor], float]:
    """(parameters after one step, norm of the gradient before clipping): Adam (Kingma & Ba 2015) on decoder rows that
    stay on the sphere: the gradient loses its part along each row, the row is brought back to length 1."""
    gradients = dict(gradients)
    rows, along = parameters["sae.decoder_weight"].detach(), gradients["sae.decoder_weight"]
    assert along is not None
    gradients["sae.decoder_weight"] = along - (along * rows).sum(1, keepdim=True) * rows
    norm = math.sqrt(sum(float(one.square().sum()) for one in gradients.values() if one is not None))
    factor = 1.0
    if training.gradient_clip is not None and norm > training.gradient_clip:
        factor = training.gradient_clip / norm
    found = {}
    for name, parameter in parameters.items():
        value, gradient, memory = parameter.detach(), gradients[name], moments[name]
        if gradient is not None:
            gradient, count = factor * gradient, memory.steps + 1
            first = training.betas[0] * memory.first + (1 - training.betas[0]) * gradient
            second = training.betas[1] * memory.second + (1 - training.betas[1]) * gradient**2
            first, second = first / (1 - training.betas[0] ** count), second / (1 - training.betas[1] ** count)
            value = value - rate(training, step) * first / (second.sqrt() + 1e-8)
        found[name] = value
    rows = found["sae.decoder_weight"]
    found["sae.decoder_weight"] = rows / rows.norm(dim=1, keepdim=True)
    for name in found:  # JumpReLU's thresholds are not negative
        if name.endswith(".threshold"):
            found[name] = found[name].clamp(min=0)
    return found, norm
