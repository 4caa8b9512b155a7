"""How a surrogate is built and trained: the section `[surrogate]` of the card."""

from mlgen.surrogate_cards import SurrogateCard as SurrogateSettings

__all__ = ["SurrogateSettings"]
