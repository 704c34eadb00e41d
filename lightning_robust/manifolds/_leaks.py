"""What was measured of a leak, and the words for it."""

from dataclasses import dataclass

from lightning_robust._checks import instance
from lightning_robust.manifolds._share import Share

MARGIN = 0.05
"""Differences of shares up to this one, 5 points, are too small to be called a leak or a fingerprint."""

Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Leak:
    r"""What a classifier reads of images that the decoders of a manifold made; see `leak`.

    For an image x of class c, with z = encode(x, c), and another class k:

    Args:
        error_on_originals: x is not read as c.
        error_on_reconstructions: decode(z, c) is not read as c.
        error_on_mislabeled: decode(encode(x, k), k) is not read as c. The manifold is handed the wrong label.
        reads_own: decode(z, k) is read as c; None where one decoder makes the images of all classes.
        reads_decoder: decode(z, k) is read as k; None as above.
        reads_random: decode(r, k) is read as k, with r standard normal within [-2, 2] and within the bounds of codes;
            None as above, and where codes have fixed parts.
        table: how often decode(z, k) is read as j, in row k and column j, of shape (K, K); None as above.
    """

    error_on_originals: Share
    error_on_reconstructions: Share
    error_on_mislabeled: Share
    reads_own: Share | None = None
    reads_decoder: Share | None = None
    reads_random: Share | None = None
    table: Table | None = None

    @property
    def easier(self) -> bool:
        """Are reconstructions read better than the images that they come from?

        The intervals of both errors are apart, and the error falls by more than 5 points or by more than a half.
        """
        before, after = self.error_on_originals, self.error_on_reconstructions
        much = before.value - after.value > MARGIN or after.value < before.value / 2
        return much and after.high < before.low

    @property
    def leaks(self) -> bool:
        """Does the label that the manifold is handed make its images easier to read?

        They are easier (see `easier`), and with a wrong label they are read worse than the originals, the intervals of
        both errors apart.
        """
        return self.easier and self.error_on_mislabeled.low > self.error_on_originals.high

    @property
    def sentence(self) -> str:
        """What was seen and what follows, in words, with 95 % intervals."""
        made, original = self.error_on_reconstructions.rest, self.error_on_originals.rest
        wrong = self.error_on_mislabeled.rest
        seen = f"Reconstructions are read right in {made}, the originals in {original}"
        if self.leaks:
            start = f"Images that the manifold has made with their label are read right in {made}"
            text = (
                f"{start} where the originals are in {original}, and with a wrong label in {wrong}: the manifold puts "
                "the label into the image, so success along these codes cannot be read as generalization."
            )
        elif self.easier:
            text = (
                f"{seen}, and with a wrong label in {wrong}: the manifold makes images easier to read, but not by the "
                "label. Success along these codes says less than the error on originals."
            )
        else:
            text = f"{seen}: no sign that the manifold puts the label into the image."
        if self.reads_own is None:
            return f"{text} One decoder makes the images of all classes."
        return (
            f"{text} An image of one class that the decoder of another has made is read as the decoder's class in "
            f"{self.reads_decoder}, as its own in {self.reads_own}."
        )


@dataclass(frozen=True)
class Fingerprint:
    """What a classifier reads of the images of two manifolds that were learned from the same data; see `fingerprint`.

    Args:
        own: what it reads of the first, along which it was trained.
        other: the same of the second.
    """

    own: Leak
    other: Leak

    def __post_init__(self) -> None:
        for name in ("own", "other"):
            leak = instance(name, getattr(self, name), Leak, "a Leak")
            if leak.reads_decoder is None:
                raise ValueError(
                    f"Expected argument `{name}` to be of a manifold with a decoder for each class, but one decoder "
                    "makes the images of all classes."
                )

    @property
    def prototype(self) -> Share:
        """Read as the decoder's class also when the second manifold made it: the picture itself shows that class."""
        return self._shares()[1]

    @property
    def vanishing(self) -> tuple[float, float, float]:
        r"""How much less often the second manifold's decoder is read: the difference of shares, low and high.

        The interval joins the two of Wilson, as if the samples were not the same; it is wider than it need be. With
        shares p and q:

        .. math:: p - q - \sqrt{(p - p_{low})^2 + (q_{high} - q)^2}, \quad
            p - q + \sqrt{(p_{high} - p)^2 + (q - q_{low})^2}

        References:
            R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in
            Medicine 17 (1998), method 10.
        """
        p, q = self._shares()
        difference = p.value - q.value
        down = ((p.value - p.low) ** 2 + (q.high - q.value) ** 2) ** 0.5
        up = ((p.high - p.value) ** 2 + (q.value - q.low) ** 2) ** 0.5
        return difference, difference - down, difference + up

    @property
    def found(self) -> bool:
        """Does the classifier know the first manifold's decoders by more than what their pictures show?

        More than 5 points vanish, and the interval is above 0.
        """
        difference, low, _ = self.vanishing
        return difference > MARGIN and low > 0

    @property
    def sentence(self) -> str:
        """What was seen and what follows, in words, with 95 % intervals."""
        own, other = self._shares()
        difference, low, high = (100 * value for value in self.vanishing)
        seen = (
            f"An image of one class that the decoder of another has made is read as the decoder's class in {own}; "
            f"where a manifold of another seed made it, in {other}, {difference:.1f} points [{low:.1f}, {high:.1f}] "
            "less."
        )
        errors = (
            f" Reconstructions are misread in {self.own.error_on_reconstructions}, those of the other manifold in "
            f"{self.other.error_on_reconstructions}."
        )
        if self.found:
            return f"{seen}{errors} What vanishes is a fingerprint of the decoders, what remains shows the class."
        return f"{seen}{errors} What is read is in the pictures, which show the class: no sign of a fingerprint."

    def _shares(self) -> tuple[Share, Share]:
        assert self.own.reads_decoder is not None
        assert self.other.reads_decoder is not None
        return self.own.reads_decoder, self.other.reads_decoder
