import warnings

import pytest
import torch

from lightning_robust.callbacks._keys import Keys

ADVICE = "It is recommended to use `self.log('{}', ..., sync_dist=True)` when logging on epoch level"


def advised(key):
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn(ADVICE.format(key), stacklevel=1)
    return bool(caught)


def test_keys():
    keys = Keys("a/", ["pgd"])
    assert keys.of("val", "robust_acc", "/dataloader_idx_1") == "a/val/robust_acc/dataloader_idx_1"
    assert keys.of("test") == "a/test/"
    keys.refuse({"val/robust_acc", "a/val/acc", "a/test/robust_acc", "a/val/robust_acc_cw"}, "val")
    for name in ("clean_acc", "robust_acc", "robust_acc_pgd"):
        with pytest.raises(ValueError, match=rf"not to log `a/val/{name}`, .* prefix="):
            keys.refuse({f"a/val/{name}", "other"}, "val")
    keys.check({"a": 0.5, "b": 0.5}, {"a": 0.5 + 1e-8})
    with pytest.raises(ValueError, match="not to log `a`"):
        keys.check({"a": 0.5}, {"a": 0.25})


@pytest.mark.parametrize("other", [0.5, float("inf")])
def test_a_mean_over_no_samples_is_itself(other):
    """It is NaN, and nobody else has logged it."""
    keys, nothing = Keys("", ()), float("nan")
    keys.check({"a": nothing}, {"a": torch.tensor(nothing)})
    for value, logged in ((nothing, other), (other, nothing)):
        with pytest.raises(ValueError, match="not to log `a`"):
            keys.check({"a": value}, {"a": torch.tensor(logged)})


def test_which_keys_are_measured():
    keys = Keys("a/", ["pgd"])
    ours = (
        "robust_acc",
        "robust_acc_pgd",
        "clean_acc",
        "suspicious",
        "robust_acc/dataloader_idx_1",
        "norm",
        "norm_far",
    )
    for name in ours:
        assert keys.measured(f"a/val/{name}", ["norm"])
    for key in ("val/robust_acc", "a/val/loss", "a/test/robust_acc", "a/val/robust_acc_cw", "a/val/normal", "a/val/"):
        assert not keys.measured(key, ["norm"])


@pytest.mark.parametrize("prefix", ["", "(8/255)+"])  # a prefix is no pattern
def test_advice_is_silent_for_our_keys_until_the_end(prefix):
    keys = Keys(prefix, ())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = list(warnings.filters)
        keys.restore()
        keys.silence()
        assert not advised(f"{prefix}val/robust_acc")
        assert advised("other/robust_acc")
        warnings.filterwarnings("ignore", "somebody else's")
        keys.restore()
        assert advised(f"{prefix}val/robust_acc")
        assert warnings.filters[1:] == before
