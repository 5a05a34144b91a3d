"""CMOS memory and RTC against an injected wall clock."""

import calendar
import time

import pytest

from minihv.devices.calendar_time import Fields, decode_hour, encode_hour, join, split
from minihv.devices.cmos import Cmos

MIB, GIB = 1 << 20, 1 << 30
START = calendar.timegm((2024, 2, 29, 13, 59, 58))  # a Thursday
UPTIME = 123_456_789_000  # nanoseconds


class Rtc:
    def __init__(self, now: float = START, low: int = 128 * MIB, high: int = 0, cpus: int = 1) -> None:
        self.now = now
        self.levels: list[bool] = []
        self.dev = Cmos(lambda: self.now, lambda: UPTIME, self.levels.append, low, high, cpus)

    def due(self) -> int | None:
        """Nanoseconds until the next deadline."""
        deadline = self.dev.next_deadline()
        return None if deadline is None else deadline - UPTIME

    def get(self, register: int) -> int:
        self.dev.write(0, 1, register)
        return self.dev.read(1, 1)

    def masked(self) -> bool:
        return self.dev.nmi_masked

    def put(self, register: int, value: int) -> None:
        self.dev.write(0, 1, register)
        self.dev.write(1, 1, value)

    def date(self) -> tuple[int, ...]:
        """century, year, month, day, weekday, hour, minute, second; raw bytes."""
        return tuple(self.get(r) for r in (0x32, 9, 8, 7, 6, 4, 2, 0))


@pytest.fixture
def rtc() -> Rtc:
    return Rtc()


def test_time_in_bcd_24_hours(rtc: Rtc) -> None:
    assert rtc.date() == (0x20, 0x24, 0x02, 0x29, 5, 0x13, 0x59, 0x58)
    rtc.now += 2
    assert rtc.date() == (0x20, 0x24, 0x02, 0x29, 5, 0x14, 0x00, 0x00)
    rtc.now += 10 * 3600
    assert rtc.date() == (0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00)


@pytest.mark.parametrize(("mode", "hour"), [(0x02, 0x13), (0x06, 13), (0x00, 0x81), (0x04, 0x81)])
def test_hour_formats(rtc: Rtc, mode: int, hour: int) -> None:
    rtc.put(0x0B, mode)
    assert rtc.get(4) == hour
    assert rtc.get(2) == (59 if mode & 4 else 0x59)


def test_status_registers(rtc: Rtc) -> None:
    assert (rtc.get(0x0A), rtc.get(0x0B), rtc.get(0x0D)) == (0x26, 0x02, 0x80)
    rtc.put(0x0D, 0)
    assert rtc.get(0x0D) == 0x80


def test_index_is_write_only_and_carries_the_nmi_mask(rtc: Rtc) -> None:
    rtc.dev.write(0, 1, 0x8F)
    assert rtc.masked()
    assert rtc.dev.read(0, 1) == 0xFF
    rtc.dev.write(1, 1, 0x0A)
    rtc.dev.write(0, 1, 0x0F)
    assert not rtc.masked()
    assert rtc.dev.read(1, 1) == 0x0A


def test_update_in_progress_just_before_the_second(rtc: Rtc) -> None:
    rtc.now = START + 0.9
    assert rtc.get(0x0A) == 0x26
    rtc.now = START + 0.999
    assert rtc.get(0x0A) == 0xA6
    rtc.now = START + 1.0
    assert rtc.get(0x0A) == 0x26


def test_setting_the_clock_under_set(rtc: Rtc) -> None:
    rtc.now = START + 0.25
    rtc.put(0x0B, 0x82)
    for register, value in ((0x32, 0x19), (9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x58)):
        rtc.put(register, value)
    rtc.now += 100  # stands still meanwhile
    assert rtc.date() == (0x19, 0x99, 0x12, 0x31, 5, 0x23, 0x59, 0x58)
    rtc.put(0x0B, 0x02)
    assert rtc.date()[-1] == 0x58
    rtc.now += 0.8  # the fraction of a second was kept
    assert rtc.date()[-1] == 0x59
    rtc.now += 1
    assert rtc.date() == (0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00)


def test_divider_reset_starts_half_a_second_before_the_update(rtc: Rtc) -> None:
    rtc.put(0x0A, 0x76)
    rtc.put(0, 0x10)
    rtc.now += 7.3
    assert rtc.get(0) == 0x10
    rtc.put(0x0A, 0x26)
    rtc.now += 0.49
    assert rtc.get(0) == 0x10
    rtc.now += 0.02
    assert rtc.get(0) == 0x11


def test_setting_one_field_while_running(rtc: Rtc) -> None:
    rtc.put(4, 0x08)
    assert rtc.date()[4:] == (5, 0x08, 0x59, 0x58)
    assert rtc.dev.offset == pytest.approx(-5 * 3600)


def test_nonsense_from_the_guest_is_survived(rtc: Rtc) -> None:
    for register in (0x32, 9, 8, 7, 6, 4, 2, 0):
        rtc.put(register, 0xFF)
        assert all(0 <= value <= 0xFF for value in rtc.date())
    rtc.put(0x0B, 0x04)
    rtc.put(8, 0)
    assert rtc.get(0x0C) & 0x80 == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (MIB, 0, (640, 0, 0, 0)),
        (64 * MIB, 0, (640, 63 * 1024, 48 * 16, 0)),
        (512 * MIB, 0, (640, 0xFFFF, 496 * 16, 0)),
        (3 * GIB, 5 * GIB, (640, 0xFFFF, (3 * 1024 - 16) * 16, 5 * 1024 * 16)),
    ],
)
def test_memory_sizes(low: int, high: int, expected: tuple[int, ...]) -> None:
    rtc = Rtc(low=low, high=high, cpus=2)

    def number(*registers: int) -> int:
        return sum(rtc.get(register) << 8 * i for i, register in enumerate(registers))

    assert (number(0x15, 0x16), number(0x17, 0x18), number(0x34, 0x35), number(0x5B, 0x5C, 0x5D)) == expected
    assert number(0x30, 0x31) == expected[1]
    assert rtc.get(0x5F) == 1
    assert number(0x2F, 0x2E) == sum(rtc.get(r) for r in range(0x10, 0x2E)) & 0xFFFF


def test_periodic_interrupt(rtc: Rtc) -> None:
    rtc.put(0x0A, 0x2F)  # 2 Hz
    rtc.put(0x0B, 0x42)
    assert rtc.due() == pytest.approx(500_000_000, abs=1000)
    rtc.now += 0.4
    rtc.dev.tick(UPTIME)
    assert rtc.levels == []
    rtc.now += 0.11
    rtc.dev.tick(UPTIME)
    assert rtc.levels == [True]
    assert rtc.due() is None  # nothing more comes before status C was read
    assert rtc.get(0x0C) == 0xC0
    assert rtc.levels == [True, False]
    assert rtc.get(0x0C) == 0
    assert rtc.due() == pytest.approx(490_000_000, abs=1000)


@pytest.mark.parametrize(("rate", "hertz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (13, 8), (15, 2)])
def test_periodic_rates(rtc: Rtc, rate: int, hertz: int) -> None:
    rtc.put(0x0A, 0x20 | rate)
    rtc.put(0x0B, 0x42)
    assert rtc.due() == pytest.approx(1e9 / hertz, abs=1000)


def test_rate_zero_is_off(rtc: Rtc) -> None:
    rtc.put(0x0A, 0x20)
    rtc.put(0x0B, 0x42)
    assert rtc.due() is None


def test_update_ended_interrupt(rtc: Rtc) -> None:
    rtc.now = START + 0.5
    rtc.get(0x0C)
    rtc.put(0x0B, 0x12)
    assert rtc.due() == pytest.approx(500_000_000, abs=1000)
    rtc.now = START + 1
    rtc.dev.tick(UPTIME)
    assert rtc.levels == [True]
    assert rtc.get(0x0C) & 0xB0 == 0x90


def test_set_stops_update_interrupts(rtc: Rtc) -> None:
    rtc.put(0x0B, 0x92)
    assert rtc.get(0x0B) == 0x82
    rtc.now += 5
    assert rtc.get(0x0C) & 0x10 == 0


def test_alarm_at_a_time_of_day(rtc: Rtc) -> None:
    for register, value in ((5, 0x14), (3, 0x00), (1, 0x01)):
        rtc.put(register, value)
    rtc.put(0x0B, 0x22)
    assert rtc.due() == pytest.approx(3e9, abs=1000)
    rtc.now += 2.9
    rtc.dev.tick(UPTIME)
    assert rtc.levels == []
    rtc.now += 0.1
    rtc.dev.tick(UPTIME)
    assert rtc.levels == [True]
    assert rtc.get(0x0C) & 0xA0 == 0xA0
    assert rtc.due() == pytest.approx(86400e9, abs=1000)


def test_alarm_with_dont_care_bytes(rtc: Rtc) -> None:
    rtc.put(5, 0xFF)
    rtc.put(3, 0xC0)
    rtc.put(1, 0x30)
    rtc.put(0x0B, 0x22)
    assert rtc.due() == pytest.approx(32e9, abs=1000)


def test_alarm_that_never_matches(rtc: Rtc) -> None:
    rtc.put(5, 0x77)
    rtc.put(0x0B, 0x22)
    assert rtc.due() is None
    rtc.now += 3 * 86400
    assert rtc.get(0x0C) & 0x20 == 0


def test_a_flag_that_is_pending_interrupts_when_it_is_enabled(rtc: Rtc) -> None:
    rtc.now += 1
    rtc.dev.tick(UPTIME)
    assert rtc.levels == []
    rtc.put(0x0B, 0x12)
    assert rtc.levels == [True]


def test_reset_keeps_time_and_memory(rtc: Rtc) -> None:
    rtc.put(0x0B, 0x12)
    rtc.put(0x40, 0x5A)
    rtc.put(4, 0x01)
    rtc.now += 1
    rtc.dev.tick(UPTIME)
    rtc.dev.reset()
    assert rtc.levels == [True, False]
    assert (rtc.get(0x0B), rtc.get(0x40), rtc.get(4)) == (0x02, 0x5A, 0x01)


MOMENTS = [
    calendar.timegm((year, month, day, 23, 59, 59))
    for year in (1970, 1999, 2000, 2024, 2100, 2400)
    for month, day in ((1, 1), (2, 28), (3, 1), (12, 31))
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_split_and_join_agree_with_the_standard_library(moment: int) -> None:
    fields = split(moment)
    t = time.gmtime(moment)
    assert (fields.year, fields.month, fields.day, fields.hour) == (t.tm_year, t.tm_mon, t.tm_mday, t.tm_hour)
    assert join(fields) == moment


def test_join_counts_on_over_the_end() -> None:
    assert join(Fields(0, 0, 0, 1, 32, 1, 2023)) == join(Fields(0, 0, 0, 1, 1, 2, 2023))
    assert join(Fields(0, 0, 0, 1, 1, 13, 2023)) == join(Fields(0, 0, 0, 1, 1, 1, 2024))
    assert join(Fields(0, 0, 0, 1, 1, 0, 2024)) == join(Fields(0, 0, 0, 1, 1, 12, 2023))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("hours24", [False, True])
def test_hours_round_trip(binary: bool, hours24: bool) -> None:
    for hour in range(24):
        assert decode_hour(encode_hour(hour, binary, hours24), binary, hours24) == hour
    assert encode_hour(0, True, False) == 12
    assert encode_hour(12, True, False) == 0x80 | 12
