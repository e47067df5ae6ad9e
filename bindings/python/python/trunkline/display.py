"""The backend of matplotlib that draws into the display channel: `module://trunkline.display`. A kernel chooses it.

`show()` shows the open figures and closes them, as a person closes windows. In interactive mode (`pyplot.ion()`) a
figure stays open, and is shown after each statement that has changed it, in the place where it was.

The module can be called, for `trunkline.display` is a function, too: `trunkline.display(value)`.
"""

from __future__ import annotations

import itertools
import sys
from types import ModuleType
from typing import Any

import matplotlib
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from . import _display

_numbers = itertools.count(1)
_changed: dict[int | str, Any] = {}
"""Figures to be shown after the statement, by number."""


class FigureManager(FigureManagerBase):
    """A figure of pyplot's, which has no window."""

    def __init__(self, canvas: Any, num: int | str) -> None:
        super().__init__(canvas, num)
        # The number of a figure is used again when it is closed.
        self.name = f"figure-{next(_numbers)}"
        self.shown = False

    def show(self) -> None:
        _changed.pop(self.num, None)
        _display.display(self.canvas.figure, id=self.name, replaces=self.shown)
        self.shown = True

    def destroy(self) -> None:
        _changed.pop(self.num, None)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:
        """Shows the open figures in the order in which they were made; closes them unless they are interactive."""
        for manager in Gcf.get_all_fig_managers():
            manager.show()
        keeps = matplotlib.is_interactive() if block is None else not block
        if not keeps:
            Gcf.destroy_all()


class FigureCanvas(FigureCanvasAgg):  # type: ignore[misc]
    manager_class = FigureManager

    def draw_idle(self, *args: Any, **options: Any) -> None:
        """The figure is drawn when the statement is over, however often it changes until then."""
        manager = self.manager
        if manager is not None and matplotlib.is_interactive():
            _changed[manager.num] = manager


def _draw_changed() -> None:
    for manager in list(_changed.values()):
        manager.show()


_follows_cells = False


def _begin_cell() -> None:
    global _follows_cells
    if not _follows_cells:
        _follows_cells = True
        matplotlib.interactive(True)
    # Those that were not shown are closed by those who have made them.
    for manager in Gcf.get_all_fig_managers():
        if getattr(manager, "shown", False):
            Gcf.destroy(manager)


if _display.in_cells:
    _begin_cell()


class _Callable(ModuleType):
    def __call__(self, value: object, *, id: str | None = None, replaces: bool = False) -> None:
        _display.display(value, id=id, replaces=replaces)


sys.modules[__name__].__class__ = _Callable
