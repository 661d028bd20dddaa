"""What a class inherits in order to show itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .card import Card


class Shown:
    """Its `_card` is what is seen of it: in words, and as HTML where a notebook asks for it.

    Example:
        >>> from innverse.showing.card import Card
        >>> class Lamp(Shown):
        ...     def _card(self):
        ...         return Card("Lamp", "60 watts")
        >>> Lamp()
        Lamp: 60 watts
    """

    def _card(self) -> Card:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._card().text()

    def _repr_html_(self) -> str:
        return self._card().html()


class PairPlotted(Shown):
    """A posterior of parameters, which `sample` draws for one observation."""

    def plot(self, x=None, *, draws: int = 2000, truth=None) -> Any:
        """A pair plot by matplotlib of ``draws`` draws, with seed 0, for one observation x.

        Args:
            truth: (D,), marked if given.

        Raises:
            InputError, ShapeError: x is not one valid observation, truth of another length.
            InnverseError: matplotlib is not installed.
        """
        from .figures import of_posterior

        return of_posterior(self, x, draws, truth)
