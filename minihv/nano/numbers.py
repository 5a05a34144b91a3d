"""Numbers of the table in words."""

from minihv.nano.measure import Spread


def cycles_words(value: float) -> str:
    """ "12,345" or "11.0"; what is not above nothing is "~0"."""
    if value <= 0:
        return "~0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def spread_words(value: Spread) -> str:
    """ "12,345 ±67": the median and its median absolute deviation."""
    mad = f"{value.mad:,.0f}" if value.mad >= 10 else f"{value.mad:.1f}"
    return f"{cycles_words(value.median)} ±{mad}"


def exits_words(value: float) -> str:
    """Exits an operation: "1", "0", "1.62"."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def hertz_words(value: float) -> str:
    """ "2.596 GHz"."""
    return f"{value / 1e9:.3f} GHz"
