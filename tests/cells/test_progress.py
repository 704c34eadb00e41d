import io

import pytest
from rich.console import Console

from lightning_robust.cells.cells import canonical
from lightning_robust.cells.progress import Account, Display, duration


def test_time_left_in_closed_form():
    account = Account({"a": 2.0, "b": 3.0, "c": 5.0, "d": 5.0}, lanes=2)
    assert account.seconds_left(0.0) is None
    account.spent["a"] = 8.0  # 4 seconds per unit of cost
    account.running["b"] = 100.0
    assert account.seconds_left(104.0) == ((12 - 4) + 20 + 20) / 2
    assert account.seconds_left(200.0) == 20.0  # b is late and counts for nothing: (0 + 20 + 20) / 2
    account.given_up.add("d")
    assert account.seconds_left(104.0) == 20.0  # c alone takes this long, however many lanes there are
    assert account.done == 2
    assert account.share_done == pytest.approx(7 / 15)


CELLS = [{"n": n} for n in (1, 2, 3)]


def _display(**options):
    text = io.StringIO()
    console = Console(file=text, width=200, **options)
    return Display(Account({canonical(cell): 1.0 for cell in CELLS}), console), text


def test_elsewhere_than_on_a_terminal_there_is_one_plain_line_per_event():
    display, text = _display()
    with display.shown():
        for cell in CELLS:
            display.started(cell)
        display.finished(CELLS[0], 90.0)
        display.failed(CELLS[1], "ValueError: [odd] value", last=False)
        display.failed(CELLS[1], "ValueError: [odd] value", last=True)
        display.finished(CELLS[2], 1.0)
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("[1/3] n=1: 1 min 30 s, about 3 min 00 s left")
    assert lines[1].startswith("[1/3] n=2: failed, tries again: ValueError: [odd] value")
    assert lines[2].startswith("[2/3] n=2: failed: ValueError: [odd] value, about")
    assert lines[3] == "[3/3] n=3: 1.0 s"
    assert len(lines) == 4
    assert "\x1b" not in text.getvalue()


def test_on_a_terminal_the_bar_says_what_runs():
    display, text = _display(force_terminal=True)
    display.account.spent[canonical(CELLS[0])] = 60.0
    with display.shown():
        display.started(CELLS[1])
    shown = text.getvalue()
    assert "1 of 3 cells are finished already" in shown
    assert "1/3 cells" in shown
    assert "about 2 min 00 s left" in shown or "about 1 min 59" in shown or "about 1 min 60" in shown
    assert "n=2" in shown


def test_many_running_cells_are_cut_short():
    cells = [{"n": n} for n in range(12)]
    display = Display(Account({canonical(cell): 1.0 for cell in cells}, lanes=12), Console(file=io.StringIO()))
    for cell in cells:
        display.started(cell)
    with display.console.capture() as captured:
        display.console.print(display.render())
    assert "n=7" in captured.get()
    assert "n=8" not in captured.get()
    assert "and 4 more" in captured.get()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.4, "12 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3599, "59 min 59 s"), (3661, "1 h 01 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
