"""Dates and times as ISO 8601 texts, also beyond Python's calendar and with nanoseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo

import pyarrow as pa

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SECONDS_PER_DAY = 86_400

_EPOCH = datetime(1970, 1, 1)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DAYS_PER_ERA = 146_097  # 400 years of the Gregorian calendar
_DAYS_FROM_YEAR_0 = 719_468  # from 0000-03-01 to 1970-01-01


def zone_of(name: str | None) -> tzinfo | None:
    """Return a time zone by its name; UTC if this machine does not know it, None without a name."""
    if name is None:
        return None
    try:
        zone: tzinfo = pa.lib.string_to_tzinfo(name)
    except (pa.ArrowException, ValueError, OSError):
        return UTC
    return zone


def timestamp_text(value: int, unit: str, zone: tzinfo | None, utc: str) -> str:
    """Return a point in time, in its zone if Python's calendar has it there, else in UTC.

    Args:
        value: the time since 1970.
        unit: the unit of `value`.
        zone: the zone; None if the time has none.
        utc: how the offset of UTC is written, `Z` or `+00:00`.
    """
    seconds, rest = divmod(value, PER_SECOND[unit])
    fraction = _fraction(rest, unit)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
        text = (moment if zone is None else moment.replace(tzinfo=UTC).astimezone(zone)).isoformat()
    except (OverflowError, ValueError):
        days, second = divmod(seconds, SECONDS_PER_DAY)
        text = f"{date_text(days)}T{_clock(second)}"
        return f"{text}{fraction}{'' if zone is None else utc}"
    offset = text[19:]
    return f"{text[:19]}{fraction}{utc if offset == '+00:00' else offset}"


def date_text(days: int) -> str:
    """Return the date that is `days` days after 1970-01-01. A year without four digits has a sign; year 0 is 1 BC."""
    try:
        return date.fromordinal(days + _EPOCH_ORDINAL).isoformat()
    except (OverflowError, ValueError):
        year, month, day = _civil(days)
    return f"{year:04d}-{month:02d}-{day:02d}" if 0 <= year <= 9999 else f"{year:+05d}-{month:02d}-{day:02d}"


def time_text(value: int, unit: str) -> str:
    """Return a time of the day; a value outside the day keeps its hours, and a negative one its sign."""
    seconds, rest = divmod(abs(value), PER_SECOND[unit])
    return f"{'-' if value < 0 else ''}{_clock(seconds)}{_fraction(rest, unit)}"


def duration_text(value: int, unit: str) -> str:
    """Return a duration in days and seconds: `P1DT3.5S`."""
    seconds, rest = divmod(abs(value), PER_SECOND[unit])
    days, seconds = divmod(seconds, SECONDS_PER_DAY)
    fraction = _fraction(rest, unit).rstrip("0")
    clock = f"T{seconds}{fraction}S" if seconds or fraction else ""
    return f"{'-' if value < 0 else ''}P{f'{days}D' if days or not clock else ''}{clock}"


def _clock(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}"


def _fraction(rest: int, unit: str) -> str:
    """Return the part of a second as Python writes it: nothing for 0, else 6 digits, or 9 if it has nanoseconds."""
    if not rest:
        return ""
    nanoseconds = rest * (10**9 // PER_SECOND[unit])
    return f".{nanoseconds:09d}" if nanoseconds % 1000 else f".{nanoseconds // 1000:06d}"


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day in the Gregorian calendar without an end (Hinnant's `civil_from_days`)."""
    era, day_of_era = divmod(days + _DAYS_FROM_YEAR_0, _DAYS_PER_ERA)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    return year + era * 400 + (month <= 2), month, day
