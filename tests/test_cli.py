import subprocess
import sys

import pytest

from lightning_robust import __version__
from lightning_robust.cli import main


def test_help_and_version(capsys):
    main([])
    assert "demo" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"lightning_robust {__version__}\n"


def test_an_unknown_command_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as error:
        main(["trian"])
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert "no command 'trian'" in text
    assert "fit" in text


@pytest.mark.parametrize("option", ["--epochs", "--train_size", "--eps", "--eta", "--restarts", "--seed", "--out"])
def test_demo_tells_its_options(option, capsys):
    with pytest.raises(SystemExit) as error:
        main(["demo", "--help"])
    assert error.value.code == 0
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("args", [["--epochs", "0"], ["--epochs", "many"], ["--speed", "1"]])
def test_demo_refuses_wrong_options(args, capsys, tmp_path):
    with pytest.raises((SystemExit, ValueError)) as error:
        main(["demo", "--out", str(tmp_path / "out"), *args])
    text = capsys.readouterr().err + str(error.value)
    assert args[0].strip("-") in text
    assert not (tmp_path / "out").exists()


def test_help_is_quick():
    code = "import sys, lightning_robust.cli as c; c.main(['--help']); assert 'jsonargparse' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("args", [[], ["manifolds"]])
def test_an_unknown_study_says_what_there_is(args, capsys):
    with pytest.raises(SystemExit) as error:
        main(["study", *args])
    assert error.value.code == 2
    assert "Studies: manifold, sample-complexity, theory" in capsys.readouterr().err


def test_the_manifold_study_tells_its_options(capsys):
    with pytest.raises(SystemExit) as error:
        main(["study", "manifold", "--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--sizes", "--schemes", "--seeds", "--preset", "--out"))
