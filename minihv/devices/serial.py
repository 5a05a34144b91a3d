"""16550A UART with the wiring of a PC serial port.

Source: National Semiconductor PC16550D data sheet (TL/C/8652), section 8, "Registers"; the gate on
OUT2 is the PC/AT's. Differences to the chip, all on purpose:

- A byte leaves at once, so THRE and TEMT read 1 always, and the transmitter FIFO is always empty.
- Nothing is lost on the way in: bytes wait in the source until the receiver FIFO has room. Only
  loopback can overrun.
- The character time-out comes at once (data sheet: after four character times without a read).
- Baud rate, word length and parity are kept and read back, but a byte goes through as it is.
- OUT2 gates the interrupt in loopback too (super-I/O chips take the register bit; on a discrete 16550
  the pin is inactive then), so that a driver can test its interrupt with loopback.
"""

from collections import deque
from collections.abc import Callable
from threading import Lock

from minihv.interfaces import ByteSink, ByteSource, IrqLine

FIFO_DEPTH = 16
WIRE_LIMIT = 4096
"""Bytes that `receive` keeps waiting for the guest; more are refused."""

IER_RECEIVED, IER_THR_EMPTY, IER_LINE_STATUS, IER_MODEM_STATUS = 0x01, 0x02, 0x04, 0x08
# Table 5, "Interrupt control functions": bits 3..0 of IIR, from the highest priority down.
IIR_LINE_STATUS, IIR_RECEIVED, IIR_TIMEOUT, IIR_THR_EMPTY, IIR_MODEM_STATUS, IIR_NONE = 6, 4, 12, 2, 0, 1
IIR_FIFO_ENABLED = 0xC0
FCR_ENABLE, FCR_CLEAR_RECEIVER = 0x01, 0x02
LCR_BREAK, LCR_DLAB = 0x40, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
LSR_DATA_READY, LSR_OVERRUN, LSR_BREAK, LSR_THRE, LSR_TEMT, LSR_FIFO_ERROR = (
    0x01,
    0x02,
    0x10,
    0x20,
    0x40,
    0x80,
)
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
MSR_TERI = 0x04

_TRIGGER = (1, 4, 8, 14)  # FCR bits 7..6
_DIVISOR_9600 = 12
_BYTE = tuple(bytes((value,)) for value in range(256))
_READ_NAMES = ("RBR", "IER", "IIR", "LCR", "MCR", "LSR", "MSR", "SCR")
_WRITE_NAMES = ("THR", "IER", "FCR", "LCR", "MCR", "LSR", "MSR", "SCR")
_DIVISOR_NAMES = ("DLL", "DLM")


class Serial16550:
    """Eight byte-wide registers at offsets 0..7.

    The guest calls `read` and `write`; `receive` and `poll` may be called from another thread at the same
    time. The lock covers the receiver and the interrupt; sending a byte does without it, which keeps the
    THR write short and lets a sink block without stopping the input.
    """

    max_width = 1

    def __init__(self, irq: IrqLine, sink: ByteSink, source: ByteSource | None = None) -> None:
        """`irq` is the port's interrupt line; bytes go to `sink` and come from `source`, if any."""
        self._irq = irq
        self._send = sink.write
        self._source = source
        self._lock = Lock()
        self._wire: deque[int] = deque()
        self._level = False
        self._power_on()

    def _power_on(self) -> None:
        """Data sheet, table 1, "UART reset configuration"; divisor and scratch are undefined there."""
        self.ier = self.fcr = self.lcr = self.mcr = self.scr = 0
        self.divisor = _DIVISOR_9600
        self.fifo: deque[int] = deque()  # low byte: data; the LSR error bits of that byte above it
        self.overrun = False
        self.thr_empty_pending = False
        self.msr = MSR_DCD | MSR_DSR | MSR_CTS  # a peer is there and ready
        self._on_wire = True  # a write to offset 0 is a byte to the sink: neither DLAB nor loopback

    def reset(self) -> None:
        """Master reset. Bytes that the host side has not yet delivered stay on the wire."""
        with self._lock:
            self._power_on()
            self._update_line()

    def close(self) -> None:
        """Nothing to give back: sink and source belong to the host side."""

    def register(self, offset: int, write: bool) -> str:
        """Register name as the data sheet spells it, with regard to DLAB."""
        if offset < 2 and self.lcr & LCR_DLAB:
            return _DIVISOR_NAMES[offset]
        return (_WRITE_NAMES if write else _READ_NAMES)[offset & 7]

    def write(self, offset: int, size: int, value: int) -> None:
        """Write one register."""
        if offset == 0 and self._on_wire:
            send = self._send  # CPython 3.11 calls a local faster than an attribute
            send(_BYTE[value & 0xFF])
            if self.ier & IER_THR_EMPTY:
                self._thr_emptied()
            return
        with self._lock:
            _WRITERS[offset & 7](self, value & 0xFF)
            self._on_wire = not (self.lcr & LCR_DLAB or self.mcr & MCR_LOOP)
            if not self.fifo:
                self._refill()  # the write may have made room, or left loopback
            self._update_line()

    def read(self, offset: int, size: int) -> int:
        """Read one register."""
        if offset == 5 and self._source is None and not (self.fifo or self._wire or self.overrun):
            return LSR_THRE | LSR_TEMT  # the common poll before a THR write: nothing to clear or fetch
        with self._lock:
            value = _READERS[offset & 7](self)
            self._update_line()
            if offset == 0 and not self.fifo and (self._wire or self._source is not None):
                # The next byte arrives after the last one was read: the request fell and comes back, so
                # that an edge-triggered interrupt controller sees every batch.
                self._refill()
                self._update_line()
        return value

    # Input, from any thread.

    def receive(self, data: bytes) -> int:
        """Put `data` on the wire to the guest; returns how many bytes were taken (see WIRE_LIMIT)."""
        with self._lock:
            taken = data[: max(WIRE_LIMIT - len(self._wire), 0)]
            self._wire.extend(taken)
            self._refill()
            self._update_line()
        return len(taken)

    def poll(self) -> None:
        """Look for input in the source, and raise the interrupt if there is some."""
        with self._lock:
            self._refill()
            self._update_line()

    def _refill(self) -> None:
        """Move bytes from the wire and the source into the receiver FIFO, as far as there is room."""
        if self.mcr & MCR_LOOP:
            return  # the receiver is disconnected from SIN
        fifo = self.fifo
        room = (FIFO_DEPTH if self.fcr & FCR_ENABLE else 1) - len(fifo)
        while room > 0 and self._wire:
            fifo.append(self._wire.popleft())
            room -= 1
        if room > 0 and self._source is not None:
            fifo.extend(self._source.take(room)[:room])

    # Interrupts.

    def _interrupt_id(self) -> int:
        """IIR bits 3..0 of the most urgent enabled cause (data sheet, table 5)."""
        enabled = self.ier
        fifo = self.fifo
        if enabled & IER_LINE_STATUS and (self.overrun or (fifo and fifo[0] > 0xFF)):
            return IIR_LINE_STATUS
        if enabled & IER_RECEIVED and fifo:
            trigger = _TRIGGER[self.fcr >> 6] if self.fcr & FCR_ENABLE else 1
            return IIR_RECEIVED if len(fifo) >= trigger else IIR_TIMEOUT
        if enabled & IER_THR_EMPTY and self.thr_empty_pending:
            return IIR_THR_EMPTY
        if enabled & IER_MODEM_STATUS and self.msr & 0x0F:
            return IIR_MODEM_STATUS
        return IIR_NONE

    def _update_line(self) -> None:
        level = bool(self.mcr & MCR_OUT2) and self._interrupt_id() != IIR_NONE
        if level != self._level:
            self._level = level
            self._irq(level)

    def _thr_emptied(self) -> None:
        """The byte just written left: the request falls with the write and comes back, a new edge."""
        with self._lock:
            self.thr_empty_pending = False
            self._update_line()
            self.thr_empty_pending = True
            self._update_line()

    # Register reads, called with the lock held.

    def _read_data(self) -> int:
        if self.lcr & LCR_DLAB:
            return self.divisor & 0xFF
        if not self.fifo:
            self._refill()
        return self.fifo.popleft() & 0xFF if self.fifo else 0

    def _read_ier(self) -> int:
        return self.divisor >> 8 if self.lcr & LCR_DLAB else self.ier

    def _read_iir(self) -> int:
        cause = self._interrupt_id()
        if cause == IIR_THR_EMPTY:
            self.thr_empty_pending = False
        return cause | (IIR_FIFO_ENABLED if self.fcr & FCR_ENABLE else 0)

    def _read_lcr(self) -> int:
        return self.lcr

    def _read_mcr(self) -> int:
        return self.mcr

    def _read_lsr(self) -> int:
        fifo = self.fifo
        if not fifo:
            self._refill()
        status = LSR_THRE | LSR_TEMT
        if self.overrun:
            status |= LSR_OVERRUN
            self.overrun = False
        if fifo:
            status |= LSR_DATA_READY | fifo[0] >> 8
            if self.fcr & FCR_ENABLE and any(entry > 0xFF for entry in fifo):
                status |= LSR_FIFO_ERROR
            fifo[0] &= 0xFF
        return status

    def _read_msr(self) -> int:
        value = self.msr
        self.msr &= 0xF0
        return value

    def _read_scr(self) -> int:
        return self.scr

    # Register writes, called with the lock held.

    def _write_data(self, value: int) -> None:
        """DLL, or THR in loopback; the plain THR write never comes here."""
        if self.lcr & LCR_DLAB:
            self.divisor = self.divisor & 0xFF00 | value
            return
        self._loop_back(value)
        self.thr_empty_pending = False
        self._update_line()
        self.thr_empty_pending = True

    def _loop_back(self, entry: int) -> None:
        """What was shifted out is shifted in. A full receiver overruns.

        In FIFO mode the new byte is lost; without, it replaces the unread one (data sheet, LSR bit 1).
        """
        if self.fcr & FCR_ENABLE:
            if len(self.fifo) >= FIFO_DEPTH:
                self.overrun = True
                return
        elif self.fifo:
            self.overrun = True
            self.fifo.clear()
        self.fifo.append(entry)

    def _write_ier(self, value: int) -> None:
        if self.lcr & LCR_DLAB:
            self.divisor = self.divisor & 0x00FF | value << 8
            return
        if (value ^ self.ier) & IER_THR_EMPTY:
            # THR is empty, so enabling the interrupt requests it right away.
            self.thr_empty_pending = bool(value & IER_THR_EMPTY)
        self.ier = value & 0x0F

    def _write_fcr(self, value: int) -> None:
        if (value ^ self.fcr) & FCR_ENABLE or value & FCR_CLEAR_RECEIVER:
            self.fifo.clear()
        # Bit 0 must be 1 when other FCR bits are written, or they are not programmed.
        self.fcr = value & (0xC0 | FCR_ENABLE) if value & FCR_ENABLE else 0

    def _write_lcr(self, value: int) -> None:
        if value & ~self.lcr & LCR_BREAK and self.mcr & MCR_LOOP:
            self._loop_back(LSR_BREAK << 8)
        self.lcr = value

    def _write_mcr(self, value: int) -> None:
        self.mcr = value & 0x1F
        before, now = self.msr & 0xF0, self._modem_inputs()
        delta = (before ^ now) >> 4 & ~MSR_TERI
        if before & ~now & MSR_RI:
            delta |= MSR_TERI  # trailing edge only
        self.msr = now | self.msr & 0x0F | delta

    def _modem_inputs(self) -> int:
        """MSR bits 7..4: the peer's lines, or in loopback MCR's outputs (data sheet, MCR bit 4)."""
        if not self.mcr & MCR_LOOP:
            return MSR_DCD | MSR_DSR | MSR_CTS
        return sum(line for output, line in _LOOPED if self.mcr & output)

    def _write_ignored(self, value: int) -> None:
        """LSR and MSR are for factory tests only when written."""

    def _write_scr(self, value: int) -> None:
        self.scr = value


_LOOPED = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
_S = Serial16550
_READERS: tuple[Callable[[Serial16550], int], ...] = (
    _S._read_data, _S._read_ier, _S._read_iir, _S._read_lcr,
    _S._read_mcr, _S._read_lsr, _S._read_msr, _S._read_scr,
)  # fmt: skip
_WRITERS: tuple[Callable[[Serial16550, int], None], ...] = (
    _S._write_data, _S._write_ier, _S._write_fcr, _S._write_lcr,
    _S._write_mcr, _S._write_ignored, _S._write_ignored, _S._write_scr,
)  # fmt: skip
