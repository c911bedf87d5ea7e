"""Control documents about models: how heads are weighed, and what lanes are told to do."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from state.events import Name
from state.versioned import Versioned

Weight = Annotated[float, Meta(ge=0.0, le=1_000.0)]
Crosses = Annotated[
    str,
    Meta(
        max_length=2_048,
        description="declared, none, or features joined by * and separated by commas.",
    ),
]


class ModelPolicy(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``models/SURFACE``: what a slot is worth there, and who decides on promotions.

    Attributes
    ----------
    click, dwell, purchase
        Worth of a click, and of what follows it, against each other; not all 0.
    promote
        ``manual``: only when told to; ``automatic``: also as soon as a shadow is shown to be better.
    """

    click: Weight = 1.0
    dwell: Weight = 0.0
    purchase: Weight = 0.0
    promote: Literal["manual", "automatic"] = "manual"

    def __post_init__(self) -> None:
        """Refuse weights that are all 0: nothing could be ranked by them."""
        if not self.click + self.dwell + self.purchase > 0:
            raise ValueError("fields 'click', 'dwell' and 'purchase' are all 0; wished: one above 0")

    def weights(self) -> dict[str, float]:
        """Return head -> its worth."""
        return {"click": self.click, "dwell": self.dwell, "purchase": self.purchase}


class Shadowing(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``challenger/SURFACE``: a model that learns beside the champion and does not serve.

    Attributes
    ----------
    shadow
        Its name.
    stop
        Whether it ends instead.
    kind
        ``linear`` or ``fm``.
    learning_rate, l2, memory_rows, factors, latent_rate
        As the click model's settings say.
    crosses, hashed
        ``declared`` for those of the registry, ``none``, or a list such as ``knn*novelty,content*affinity``.
    begin
        From the ``champion``'s weights, as far as both have them, or from the ``prior``.
    """

    shadow: Name | Literal[""] = ""
    stop: bool = False
    kind: Literal["linear", "fm"] = "linear"
    learning_rate: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.4
    l2: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    memory_rows: Annotated[float, Meta(ge=1_000.0, le=1e9)] = 1_000_000.0
    factors: Annotated[int, Meta(ge=1, le=32)] = 8
    latent_rate: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.05
    crosses: Crosses = "declared"
    hashed: Crosses = "declared"
    begin: Literal["champion", "prior"] = "champion"


class Promotion(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``promotion/SURFACE``: a shadow becomes the champion.

    Attributes
    ----------
    shadow
        Which.
    pooled_high
        Upper end of the interval of all lanes together, where there are several.
    """

    shadow: Name | Literal[""] = ""
    pooled_high: float | None = None


class Comeback(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``rollback/SURFACE``: a kept version becomes the champion again.

    Attributes
    ----------
    to
        Its name or number.
    """

    to: Annotated[str, Meta(max_length=64)] = ""


class Naming(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The document ``version/SURFACE``: the champion of now is kept under a name.

    Attributes
    ----------
    label
        The name; an older version of that name loses its place.
    """

    label: Name | Literal[""] = ""


ModelDocument = ModelPolicy | Shadowing | Promotion | Comeback | Naming
MODEL_DOCUMENTS: Mapping[str, type[ModelDocument]] = {
    "models": ModelPolicy,
    "challenger": Shadowing,
    "promotion": Promotion,
    "rollback": Comeback,
    "version": Naming,
}
"""Kinds that control passes on to every lane."""
