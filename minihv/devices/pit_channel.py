"""One counter of an 8254: what OUT and the count are at a moment, from the moment it was loaded.

Source: Intel 8254 data sheet (231164), "Operational Description" and "Mode Definitions". Nothing runs: a
counter is a pure function of the ticks since it was started. The one CLK between writing a count and
loading it is left out, and a new count in mode 3 is taken at the end of the whole cycle, not of the half.
"""

TICK_HZ = 1_193_182
"""CLK of all three counters: 14.31818 MHz / 12."""
NS_PER_SECOND = 1_000_000_000
UNPROGRAMMED = 0xFF
"""Mode before the first control word (KVM uses the same number)."""

LSB, MSB, WORD_LSB, WORD_MSB = 1, 2, 3, 4
"""Which byte comes next; 1..3 are also the control word's RW field, numbered as in KVM."""


def ticks_to_ns(ticks: int) -> int:
    """Nanoseconds after which at least `ticks` CLK pulses have passed."""
    return -(-ticks * NS_PER_SECOND // TICK_HZ)


def to_bcd(value: int) -> int:
    """0..9999 as four BCD digits."""
    return int(str(value), 16)


def from_bcd(value: int) -> int:
    """The number that four BCD digits stand for; digits above 9 carry, as in a real counter."""
    return sum((value >> 4 * place & 0xF) * 10**place for place in range(4))


class Channel:
    """Registers of one counter. Times are in nanoseconds of the injected clock."""

    def __init__(self, gate: bool) -> None:
        self._gate_at_reset = gate
        self.reset()

    def reset(self) -> None:
        """After power-on (undefined in the data sheet): no mode, OUT high."""
        self.mode = UNPROGRAMMED
        self.bcd = False
        self.rw_mode = WORD_LSB
        self.gate = self._gate_at_reset
        self.count = 0x10000
        self.next_count: int | None = None
        """Written while counting; taken at the end of the cycle or at the next trigger."""
        self.reload_at = 0
        """Tick (since `start`) at which `next_count` is taken."""
        self.loaded = False
        self.start: int | None = None
        """When counting began; None: not counting."""
        self.paused = 0
        """Ticks done when the gate stopped the count."""
        self.edges_seen = 0
        self.edges_owed = 0
        self.latched_count = 0
        self.count_latched = 0
        self.status_latched = False
        self.status = 0
        self.read_state = self.write_state = WORD_LSB
        self.write_latch = 0

    # --- Time ---------------------------------------------------------------------------------------

    def sync(self, now: int) -> None:
        """Take over a new count whose time has come."""
        if self.next_count is None or self.start is None or self.mode not in (2, 3):
            return
        if self.ticks(now) >= self.reload_at:
            self.edges_owed += self.reload_at // self.period - self.edges_seen
            self.start += ticks_to_ns(self.reload_at)
            self.count, self.next_count = self.next_count, None
            self.edges_seen = 0

    def ticks(self, now: int) -> int:
        """CLK pulses counted since the count was loaded."""
        if self.start is None:
            return self.paused
        return max(now - self.start, 0) * TICK_HZ // NS_PER_SECOND

    @property
    def period(self) -> int:
        """Ticks of a cycle in modes 2 and 3, where a count of 1 is illegal."""
        return max(self.count, 2)

    def output(self, now: int) -> bool:
        """Level of OUT."""
        self.sync(now)
        done = self.ticks(now)
        mode = self.mode
        if mode == 0:
            return self.loaded and done >= self.count
        if self.start is None:
            return True
        if mode == 1:
            return done >= self.count
        if mode == 2:
            return done % self.period != self.period - 1
        if mode == 3:
            return done % self.period < (self.period + 1) // 2
        return done != self.count

    def value(self, now: int) -> int:
        """What the counting element holds, as read by the program (BCD where so programmed)."""
        self.sync(now)
        done = self.ticks(now)
        if self.mode == 2:
            value = self.count - done % self.period
        elif self.mode == 3:
            # Counts down by two in each half.
            half = (self.period + 1) // 2
            value = (self.period & ~1) - 2 * (done % self.period % half)
        else:
            value = self.count - done
        return to_bcd(value % 10000) if self.bcd else value & 0xFFFF

    def _edge_tick(self, number: int) -> int | None:
        """Tick of the `number`th (from 1) rise of OUT since the load."""
        if self.mode in (2, 3):
            return number * self.period
        if number > 1:
            return None
        return self.count if self.mode in (0, 1) else self.count + 1

    def take_edges(self, now: int) -> int:
        """How often OUT rose by counting since the last call."""
        self.sync(now)
        total = 0
        if self.start is not None:
            done = self.ticks(now)
            first = self._edge_tick(1) or 0
            total = done // self.period if self.mode in (2, 3) else int(done >= first)
        edges = max(total - self.edges_seen, 0) + self.edges_owed
        self.edges_seen = max(total, self.edges_seen)
        self.edges_owed = 0
        return edges

    def next_edge(self) -> int | None:
        """When OUT will next rise by counting; None: not at all."""
        if self.start is None:
            return None
        tick = self._edge_tick(self.edges_seen + 1)
        return None if tick is None else self.start + ticks_to_ns(tick)

    # --- Programming --------------------------------------------------------------------------------

    def _begin(self, now: int) -> None:
        self.start = now
        self.paused = self.edges_seen = 0

    def control(self, value: int) -> None:
        """A control word for this counter: mode, byte order, BCD. Stops the count."""
        self.rw_mode = value >> 4 & 3
        mode = value >> 1 & 7
        self.mode = mode & 3 if mode > 5 else mode  # X10 is mode 2, X11 is mode 3
        self.bcd = bool(value & 1)
        self.read_state = self.write_state = self.rw_mode
        self.start, self.next_count, self.loaded = None, None, False
        self.paused = self.edges_seen = self.edges_owed = 0
        self.count_latched, self.status_latched = 0, False

    def write(self, value: int, now: int) -> None:
        """A byte of the initial count."""
        if self.write_state == LSB:
            self._load(value, now)
        elif self.write_state == MSB:
            self._load(value << 8, now)
        elif self.write_state == WORD_LSB:
            self.write_latch = value
            self.write_state = WORD_MSB
            if self.mode == 0:
                # The first byte stops the count and OUT goes low at once (mode 0).
                self.start, self.paused, self.loaded = None, 0, False
        else:
            self.write_state = WORD_LSB
            self._load(self.write_latch | value << 8, now)

    def _load(self, raw: int, now: int) -> None:
        count = (from_bcd(raw) or 10000) if self.bcd else (raw or 0x10000)
        self.loaded = True
        if self.mode in (1, 5):
            # The one-shot in progress goes on with its old count.
            if self.start is None:
                self.count = count
            else:
                self.next_count = count
        elif self.mode in (2, 3) and self.start is not None:
            self.sync(now)
            self.next_count = count
            self.reload_at = (self.ticks(now) // self.period + 1) * self.period
        else:
            self.count = count
            self.start, self.paused, self.edges_seen = None, 0, 0
            if self.gate and self.mode != UNPROGRAMMED:
                self._begin(now)

    def set_gate(self, level: bool, now: int) -> None:
        """Drive GATE (data sheet, table "Gate pin operations")."""
        if level == self.gate:
            return
        self.sync(now)
        self.gate = level
        if not level:
            if self.mode in (0, 4):
                self.paused, self.start = self.ticks(now), None
            elif self.mode in (2, 3):
                self._take_next()
                self.start, self.paused = None, 0
            return
        if not self.loaded or self.mode == UNPROGRAMMED:
            return
        if self.mode in (0, 4):
            self.start = now - ticks_to_ns(self.paused)
        else:
            self._take_next()
            self._begin(now)

    def _take_next(self) -> None:
        if self.next_count is not None:
            self.count, self.next_count = self.next_count, None

    # --- Reading ------------------------------------------------------------------------------------

    def latch_count(self, now: int) -> None:
        """Counter latch command; ignored while an earlier latch has not been read."""
        if not self.count_latched:
            self.latched_count = self.value(now)
            self.count_latched = self.rw_mode

    def latch_status(self, now: int) -> None:
        """Read-back of the status: OUT, null count, RW, mode, BCD."""
        if self.status_latched:
            return
        null = not self.loaded or self.next_count is not None
        mode = self.mode & 7 if self.mode != UNPROGRAMMED else 0
        self.status = self.output(now) << 7 | null << 6 | self.rw_mode << 4 | mode << 1 | self.bcd
        self.status_latched = True

    def read(self, now: int) -> int:
        """A byte from the counter's port: latched status first, then latched count, then the live one."""
        if self.status_latched:
            self.status_latched = False
            return self.status
        if self.count_latched:
            state, value = self.count_latched, self.latched_count
            self.count_latched = WORD_MSB if state == WORD_LSB else 0
            return value >> 8 if state in (MSB, WORD_MSB) else value & 0xFF
        value = self.value(now)
        state = self.read_state
        if state == WORD_LSB:
            self.read_state = WORD_MSB
        elif state == WORD_MSB:
            self.read_state = WORD_LSB
        return value >> 8 if state in (MSB, WORD_MSB) else value & 0xFF
