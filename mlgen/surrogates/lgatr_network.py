"""L-GATr-slim (arXiv:2512.17011) as the network of a surrogate: a transformer that sees momenta."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mlgen.errors import MissingExtra
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.networks import Inputs, Network

N_HEADS = 4
SCALARS_A_VECTOR = 4
"""Hidden scalar channels for each hidden vector channel."""


class LgatrNetwork(Network):
    """One token a leg, a Lorentz vector with the kind of its particle, and one that is read off.

    Kinds are the same for identical legs, so that their order means nothing. Scalars that come out are
    Lorentz invariant, up to rounding in single precision.
    """

    def __init__(
        self,
        inputs: Inputs,
        settings: SurrogateCard,
        n_out: int,
        rng: torch.Generator,
        n_members: int,
        last_scale: float,
    ) -> None:
        """Start at random.

        Raises:
            MissingExtra: lgatr is not installed.
        """
        try:
            from lgatr import LGATrSlim
        except ImportError as error:
            raise MissingExtra(
                "lgatr is not installed: pip install 'mlgen-hep[lgatr]', or surrogate.network = 'mlp'"
            ) from error
        super().__init__()
        self.n_members, self._kinds = n_members, inputs.kinds
        self._n_kinds = max(inputs.kinds) + 1
        self.members = torch.nn.ModuleList()
        # lgatr draws its weights from torch's own generator.
        with torch.random.fork_rng(devices=[]):
            for _ in range(n_members):
                torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
                member = LGATrSlim(
                    num_blocks=settings.n_layers,
                    in_v_channels=1,
                    out_v_channels=0,
                    hidden_v_channels=settings.n_hidden // SCALARS_A_VECTOR,
                    in_s_channels=self._n_kinds + 2,
                    out_s_channels=n_out,
                    hidden_s_channels=settings.n_hidden,
                    num_heads=N_HEADS,
                )
                with torch.no_grad():
                    member.linear_out.linear_s.weight.mul_(last_scale)
                self.members.append(member)

    def forward(self, columns: Tensor) -> Tensor:
        vectors, scalars = self._tokens(columns)
        outputs = [member(vectors, scalars)[1][:, 0] for member in self.members]
        return torch.stack(outputs)

    def _tokens(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The vector (n, 1 + n_ext, 1, 4) and the scalars (n, 1 + n_ext, n_kinds + 2) of each token.

        The first token is the one that is read off: it has no momentum, and ln of s_hat.
        """
        n_ext = len(self._kinds)
        vectors = F.pad(columns[:, 1:].reshape(-1, n_ext, 1, 4), (0, 0, 0, 0, 1, 0))
        kinds = torch.tensor((self._n_kinds, *self._kinds), device=columns.device)
        kinds = F.one_hot(kinds, self._n_kinds + 1).to(columns.dtype)
        log_s = F.pad(columns[:, :1, None], (0, 0, 0, n_ext))
        # Not len, which makes n a constant of an exported model (torch 2.13).
        return vectors, torch.cat([kinds.expand(columns.shape[0], -1, -1), log_s], dim=2)
