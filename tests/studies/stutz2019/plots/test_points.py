from lightning_robust.plots.style import looks
from lightning_robust_studies.stutz2019.plots.points import point_area, point_looks


def test_49_groups_are_told_apart_by_colour_and_marker():
    drawn = [(look.colour, look.marker) for look in point_looks(range(49)).values()]
    assert len(set(drawn)) == 49
    assert len(set(drawn[:7])) == len({colour for colour, _ in drawn[:7]}) == len({marker for _, marker in drawn[:7]})


def test_the_colours_are_those_of_curves_and_bars():
    names = [f"model {i}" for i in range(10)]
    elsewhere = looks(names)
    for name, look in point_looks(names).items():
        assert look.colour == elsewhere[name].colour
        assert look.dash == elsewhere[name].dash


def test_more_points_are_smaller():
    areas = [point_area(n) for n in (1, 100, 1000, 3000, 10**6)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] == 42.0
    assert areas[-1] == 8.0
