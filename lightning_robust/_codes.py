"""Latent codes: one tensor, or a tuple whose first entry moves."""

from typing import Any


def parts(code: Any) -> tuple[Any, ...]:
    """A code as (z, *fixed): z moves under an attack, the rest stays.

    Args:
        code: z alone, or a tuple or list (z, *fixed). An empty one is given back as z: the check of z refuses it.

    Example:
        >>> parts(1.5), parts((1.5, "font"))
        ((1.5,), (1.5, 'font'))
    """
    return tuple(code) if isinstance(code, tuple | list) and code else (code,)
