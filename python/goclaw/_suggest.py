"""One sentence for a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """Says which known name was probably meant, else lists them."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known here: " + ", ".join(f"`{n}`" for n in names) if names else "none are known here"


def refuse_unknown(given: Iterable[object], known: Iterable[str], what: str) -> tuple[str, str] | None:
    """Message and help for the first unknown key of a mapping, or `None` where all are known."""
    allowed = list(known)
    for key in given:
        if key not in allowed:
            return f"{what} has no key `{key}`", suggest(str(key), allowed)
    return None
