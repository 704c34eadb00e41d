import base64

from lightning_robust.plots import Estimate, bar_chart
from lightning_robust_studies.pictures import saved


def test_the_file_and_the_page_show_the_same(tmp_path):
    figure = bar_chart([Estimate(0.136, 0.123, 0.15, 2500).row(metric="error", model="normal")])
    pictures = saved({"errors": (figure, "Errors of models.")}, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["errors.png"]
    picture = pictures["errors"]
    assert picture.source.endswith(base64.b64encode((tmp_path / "errors.png").read_bytes()).decode())
    assert picture.caption == picture.alt == "Errors of models."
