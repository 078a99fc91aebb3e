"""The feed-forward half of a layer with experts: a router over many MLPs, apart from the one MLP of a dense layer."""

from __future__ import annotations

from planner.frozen import dataclass
from planner.model.mlp import Mlp
from planner.model.weights import Weight, linear, vector


@dataclass(frozen=True, repr=False)
class Moe:
    """`experts` MLPs of `expert_width`, `active` of them a token, plus shared ones that always run.

    router [experts, hidden] (and a correction bias when `router_bias`), shared: one MLP of `shared_width`
    (several shared experts are one wide one), with a gate [1, hidden] when `shared_gate`.
    `expert_hidden`: experts read and write vectors of this width, behind one projection down and one up
    (Nemotron 3, Kimi K3); 0: they read the hidden state itself.
    `router`: what chooses the experts where that is no single matrix (Zaya: a small MLP).
    """

    hidden: int
    experts: int
    active: int
    expert_width: int
    shared_width: int = 0
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    shared_gate: bool = False
    extra: tuple[Weight, ...] = ()
    expert_hidden: int = 0
    router: tuple[Weight, ...] = ()

    @property
    def activation_width(self) -> int:
        """Counts the elements that one token has alive: those of an MLP, for each active expert and for the shared
        ones.
        """
        return (3 if self.gated else 2) * (self.active * self.expert_width + self.shared_width)

    def weights(self) -> tuple[Weight, ...]:
        inner = self.expert_hidden or self.hidden
        experts: tuple[Weight, ...] = Mlp(
            inner, self.expert_width, self.gated, self.bias, "experts", self.experts, self.active
        ).weights()
        if self.expert_hidden:
            experts += linear("mlp", inner, self.hidden, name="fc1_latent_proj") + linear(
                "mlp", self.hidden, inner, name="fc2_latent_proj"
            )
        router = self.router or (Weight("router", self.experts, self.hidden, linear=False, name="gate|router"),)
        if self.router_bias:
            router += (vector("router", self.experts),)
        shared: tuple[Weight, ...] = ()
        if self.shared_width:
            shared = Mlp(self.hidden, self.shared_width, self.gated, self.bias, "shared_experts").weights()
        if self.shared_gate:
            shared += (Weight("router", 1, self.hidden, linear=False, name="shared_expert_gate"),)
        return experts + router + shared + self.extra
