"""Format numbers and times for readers."""

from __future__ import annotations

from datetime import UTC, datetime

NONE = "–"
_GAP = "\N{NO-BREAK SPACE}"
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_DURATIONS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def share(value: float) -> str:
    """Returns a share in per cent: 76.9 %."""
    return f"{_signed(100 * value, 1)}{_GAP}%"


def whole(value: float) -> str:
    """Returns a count in full: 1,000,000."""
    return f"{value:,.0f}"


def compact(value: float) -> str:
    """Returns a count in short form: 99,999, 123 k, 1.2 M."""
    if abs(value) < 100_000:
        return whole(value)
    size, unit = next(step for step in _UNITS if abs(value) >= 0.9995 * step[0])
    scaled = value / size
    return f"{scaled:.{0 if scaled >= 99.95 else 1}f}{_GAP}{unit}"


def number(value: float) -> str:
    """Returns a score or a coefficient, with fewer decimals the larger it is."""
    size = abs(value)
    return _signed(value, 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3)


def plain(value: float) -> str:
    """Returns a value of a scale without trailing zeros: 5, 7.5."""
    return f"{value:.4g}".replace("-", "−") if abs(value) < 1e6 else number(value)


def rating(value: float) -> str:
    """Returns a rating without decimals: 1,043."""
    return _signed(value, 0)


def money(value: float, currency: str | None) -> str:
    """Returns an amount with its currency; amounts below 1 have four significant digits."""
    amount = f"{value:,.2f}" if abs(value) >= 0.9995 or value == 0 else f"{value:.4g}"
    return f"{amount}{_GAP}{currency}" if currency else amount


def duration(seconds: float) -> str:
    """Returns a duration: 120 ms, 5.7 s, 56 min 45 s, 3 h 12 min."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f}{_GAP}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{_GAP}s"
    rounded = max(60, round(seconds))
    size, unit, small, part = next(step for step in _DURATIONS if rounded >= step[0])
    rest = rounded % size // small
    return f"{rounded // size:,}{_GAP}{unit}" + (f" {rest}{_GAP}{part}" if rest else "")


def when(moment: float | str | None) -> str:
    """Returns a time given as Unix seconds or ISO 8601: 2026-11-24 00:33 UTC."""
    if moment is None:
        return NONE
    try:
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        return str(moment)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def listed(names: list[str], max_names: int = 6) -> str:
    """Returns names as a list in a sentence: a, b and c."""
    if len(names) > max_names:
        return f"{', '.join(names[:max_names])} and {len(names) - max_names:,} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else NONE


def plural(n: int, one: str, many: str | None = None) -> str:
    """Returns a count with its noun: 1 row, 1,200 rows."""
    return f"{n:,}{_GAP}{one if n == 1 else many or one + 's'}"


def _signed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not float(text.replace(",", "")) else text.replace("-", "−")
