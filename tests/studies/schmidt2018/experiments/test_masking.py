from lightning_robust_studies.schmidt2018.experiments.masking import misled, trusted


def _row(model, low, data="a", metric="too optimistic by"):
    return {"data": data, "model": model, "metric": metric, "low": low}


MASKING = [
    _row("plain", 0.0),
    _row("masked", 0.0),
    _row("masked", 0.05),  # at another radius of training
    _row("fine", 0.9, metric="accuracy"),
    _row("only", 0.3, data="b"),
]


def test_a_network_is_misled_where_it_is_at_one_radius():
    assert misled(MASKING) == {("a", "masked"), ("b", "only")}


def test_networks_that_are_not_misled_are_left_and_all_where_there_is_no_other():
    models = [{"data": d, "model": m} for d, m in (("a", "plain"), ("a", "masked"), ("a", "fine"), ("b", "only"))]
    assert trusted(models, MASKING) == [models[0], models[2], models[3]]
    assert trusted(models, []) == models
