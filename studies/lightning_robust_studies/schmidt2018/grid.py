"""Where the need for samples is asked for by default; apart from all that needs torch."""

DIMENSIONS = tuple(2**k for k in range(8, 17))
RADII = (0.1, 0.25, 0.5)
