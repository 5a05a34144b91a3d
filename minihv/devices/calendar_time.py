"""Seconds since the epoch as an RTC counts them: calendar fields, BCD or binary, 12 or 24 hours. Pure.

Source: Motorola MC146818A data sheet (ADI856R2), "Time, Calendar, and Alarm Locations".
"""

from time import gmtime
from typing import NamedTuple

PM = 0x80
"""Bit 7 of the hours byte in 12-hour mode."""
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # years 1 to 9999, what `gmtime` takes everywhere
_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_EPOCH_DAYS = 719_162  # days from 0001-01-01 to 1970-01-01


class Fields(NamedTuple):
    """A date and time in UTC; `weekday` is 1 for Sunday."""

    second: int
    minute: int
    hour: int
    weekday: int
    day: int
    month: int
    year: int


def split(seconds: int) -> Fields:
    """Calendar fields of `seconds` since the epoch, limited to the years 1 to 9999."""
    t = gmtime(min(max(seconds, _FIRST), _LAST))
    return Fields(
        min(t.tm_sec, 59), t.tm_min, t.tm_hour, (t.tm_wday + 1) % 7 + 1, t.tm_mday, t.tm_mon, t.tm_year
    )


def join(fields: Fields) -> int:
    """Seconds since the epoch. Fields out of range count on: day 32 of January is 1 February."""
    years = fields.year + (fields.month - 1) // 12 - 1
    month = (fields.month - 1) % 12
    leap = (years + 1) % 4 == 0 and ((years + 1) % 100 != 0 or (years + 1) % 400 == 0)
    days = years * 365 + years // 4 - years // 100 + years // 400
    days += _DAYS_BEFORE[month] + (leap and month > 1) + fields.day - 1 - _EPOCH_DAYS
    return ((days * 24 + fields.hour) * 60 + fields.minute) * 60 + fields.second


def to_bcd(value: int) -> int:
    """0..99 as two decimal digits."""
    return value // 10 << 4 | value % 10


def from_bcd(value: int) -> int:
    """Two decimal digits as a number; digits above 9 count as they are, nothing is refused."""
    return (value >> 4) * 10 + (value & 0x0F)


def encode_hour(hour: int, binary: bool, hours24: bool) -> int:
    """0..23 as the hours byte."""
    if hours24:
        return hour if binary else to_bcd(hour)
    twelve = (hour + 11) % 12 + 1
    return (twelve if binary else to_bcd(twelve)) | (PM if hour >= 12 else 0)


def decode_hour(value: int, binary: bool, hours24: bool) -> int:
    """The hours byte as 0..23 (or more, where the guest wrote nonsense)."""
    if hours24:
        return value if binary else from_bcd(value)
    digits = value & ~PM
    return (digits if binary else from_bcd(digits)) % 12 + (12 if value & PM else 0)
