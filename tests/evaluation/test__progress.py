from lightning_robust.evaluation._progress import progress_bar


def test_nothing_is_printed_but_on_a_terminal(capsys):
    with progress_bar(shown=True, samples=4):
        pass
    assert capsys.readouterr() == ("", "")
