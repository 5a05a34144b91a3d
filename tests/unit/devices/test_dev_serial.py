"""The 16550A: registers, FIFOs, interrupts and their priorities, loopback."""

import threading

import pytest

from minihv.devices.serial import WIRE_LIMIT, Serial16550
from minihv.host.console import BufferSink
from minihv.host.sources import BufferSource

THR = RBR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7
OUT2, LOOP = 0x08, 0x10


class Port:
    """A port with its sink and the history of its interrupt line."""

    def __init__(self, source: BufferSource | None = None) -> None:
        self.levels: list[bool] = []
        self.sink = BufferSink()
        self.uart = Serial16550(self.levels.append, self.sink, source)

    def out(self, offset: int, value: int) -> None:
        self.uart.write(offset, 1, value)

    def inb(self, offset: int) -> int:
        return self.uart.read(offset, 1)

    def edges(self) -> list[bool]:
        """Level changes since the last call."""
        seen, self.levels[:] = list(self.levels), []
        return seen


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def irq_port() -> Port:
    """FIFO on with a trigger of 8, OUT2 set."""
    port = Port()
    port.out(FCR, 0x81)
    port.out(MCR, OUT2)
    return port


def test_power_on_state(port: Port) -> None:
    assert [port.inb(offset) for offset in range(8)] == [0, 0, 0x01, 0, 0, 0x60, 0xB0, 0]
    assert port.edges() == []


def test_thr_write_sends_the_byte(port: Port) -> None:
    for byte in b"hi\xff":
        port.out(THR, byte)
    assert port.sink.data == b"hi\xff"
    assert port.inb(LSR) == 0x60


def test_divisor_latch_hides_data_and_ier(port: Port) -> None:
    port.out(IER, 0x05)
    port.out(LCR, 0x83)
    assert (port.inb(DLL), port.inb(DLM)) == (12, 0)
    port.out(DLL, 0x80)
    port.out(DLM, 0x25)
    assert (port.inb(DLL), port.inb(DLM), port.uart.divisor) == (0x80, 0x25, 0x2580)
    assert port.sink.data == b""
    port.out(LCR, 0x03)
    assert (port.inb(IER), port.inb(LCR)) == (0x05, 0x03)
    port.out(THR, ord("x"))
    assert port.sink.data == b"x"


def test_register_names_follow_dlab(port: Port) -> None:
    assert [port.uart.register(o, True) for o in range(8)] == [
        "THR", "IER", "FCR", "LCR", "MCR", "LSR", "MSR", "SCR",
    ]  # fmt: skip
    assert [port.uart.register(o, False) for o in (0, 2)] == ["RBR", "IIR"]
    port.out(LCR, 0x80)
    assert [port.uart.register(o, True) for o in (0, 1, 2)] == ["DLL", "DLM", "FCR"]


def test_reserved_bits_read_zero_and_scratch_keeps(port: Port) -> None:
    port.out(IER, 0xFF)
    port.out(MCR, 0xFF & ~LOOP)
    port.out(SCR, 0xA5)
    assert (port.inb(IER), port.inb(MCR), port.inb(SCR)) == (0x0F, 0x0F, 0xA5)


def test_line_and_modem_status_ignore_writes(port: Port) -> None:
    port.out(LSR, 0xFF)
    port.out(MSR, 0x0F)
    assert (port.inb(LSR), port.inb(MSR)) == (0x60, 0xB0)


def test_input_is_pulled_from_the_source_by_polling() -> None:
    port = Port(BufferSource(b"ab"))
    assert port.inb(LSR) & 1
    assert port.inb(RBR) == ord("a")
    assert port.inb(LSR) & 1
    assert port.inb(RBR) == ord("b")
    assert not port.inb(LSR) & 1
    assert port.inb(RBR) == 0


def test_nothing_is_lost_with_a_full_fifo() -> None:
    text = bytes(range(1, 101))
    source = BufferSource(text)
    port = Port(source)
    port.out(FCR, 0x01)
    port.uart.poll()
    assert len(port.uart.fifo) == 16
    assert bytes(port.inb(RBR) for _ in text) == text
    assert port.inb(LSR) == 0x60


def test_received_bytes_are_bounded(port: Port) -> None:
    assert port.uart.receive(bytes(WIRE_LIMIT + 500)) == WIRE_LIMIT
    assert port.uart.receive(b"x") == 1  # one went into RBR and left room
    assert port.uart.receive(b"x") == 0


def test_out2_gates_the_line(port: Port) -> None:
    port.out(IER, 0x01)
    port.uart.receive(b"a")
    assert port.inb(IIR) == 0x04
    assert port.edges() == []
    port.out(MCR, OUT2)
    assert port.edges() == [True]
    port.out(MCR, 0)
    assert port.edges() == [False]


def test_one_byte_without_fifo_raises_received(port: Port) -> None:
    port.out(MCR, OUT2)
    port.out(IER, 0x01)
    port.uart.receive(b"ab")
    assert port.edges() == [True]
    assert port.inb(IIR) == 0x04
    assert port.inb(RBR) == ord("a")
    assert port.edges() == [False, True]  # the next byte is a new edge
    assert port.inb(RBR) == ord("b")
    assert port.edges() == [False]


@pytest.mark.parametrize(("fcr", "trigger"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_trigger_levels_and_timeout(port: Port, fcr: int, trigger: int) -> None:
    port.out(FCR, fcr)
    port.out(MCR, OUT2)
    port.out(IER, 0x01)
    port.uart.receive(bytes(trigger))
    assert port.inb(IIR) == 0xC4
    port.inb(RBR)
    assert port.inb(IIR) == (0xCC if trigger > 1 else 0xC1)


def test_timeout_raises_the_line_below_the_trigger(irq_port: Port) -> None:
    irq_port.out(IER, 0x01)
    irq_port.uart.receive(b"abc")
    assert irq_port.edges() == [True]
    assert irq_port.inb(IIR) == 0xCC
    assert [irq_port.inb(RBR) for _ in range(3)] == list(b"abc")
    assert irq_port.edges() == [False]
    assert irq_port.inb(IIR) == 0xC1


def test_interrupt_driven_input_goes_on_without_another_poll() -> None:
    source = BufferSource(bytes(range(40)))
    port = Port(source)
    port.out(FCR, 0x01)
    port.out(MCR, OUT2)
    port.out(IER, 0x01)
    assert port.edges() == [True]
    got = []
    while port.inb(IIR) & 0x0F == 0x04:
        got.append(port.inb(RBR))
    assert got == list(range(40))
    assert port.edges() == [False, True, False, True, False]


def test_thr_interrupt_on_enable_and_after_each_byte(port: Port) -> None:
    port.out(MCR, OUT2)
    port.out(IER, 0x02)
    assert port.edges() == [True]
    assert port.inb(IIR) == 0x02
    assert port.edges() == [False]  # reading IIR clears this cause
    assert port.inb(IIR) == 0x01
    port.out(THR, ord("a"))
    assert port.edges() == [True]
    port.out(THR, ord("b"))
    assert port.edges() == [False, True]
    port.out(IER, 0x00)
    assert port.edges() == [False]
    assert port.sink.data == b"ab"


def test_reading_iir_clears_thr_empty_only_when_it_is_the_reported_cause(irq_port: Port) -> None:
    irq_port.out(IER, 0x03)
    irq_port.uart.receive(b"a")
    assert irq_port.inb(IIR) == 0xCC
    irq_port.inb(RBR)
    assert irq_port.inb(IIR) == 0xC2
    assert irq_port.inb(IIR) == 0xC1


def test_priorities_from_line_status_down_to_modem_status(port: Port) -> None:
    port.out(FCR, 0x01)
    port.out(MCR, LOOP | OUT2)
    for _ in range(17):
        port.out(THR, 0x55)
    port.out(IER, 0x0F)
    port.out(MCR, LOOP | OUT2 | 0x01)  # DTR -> DSR
    assert port.inb(IIR) == 0xC6
    assert port.inb(LSR) == 0x63
    assert port.inb(IIR) == 0xC4
    for _ in range(16):
        assert port.inb(RBR) == 0x55
    assert port.inb(IIR) == 0xC2
    # DCD came with OUT2, CTS and DSR fell and DSR rose again.
    assert port.inb(IIR) == 0xC0
    assert port.inb(MSR) & 0xF0 == 0xA0
    assert port.inb(IIR) == 0xC1


def test_loopback_sends_nothing_out(port: Port) -> None:
    port.out(MCR, LOOP)
    port.out(THR, ord("x"))
    assert port.sink.data == b""
    assert port.inb(LSR) == 0x61
    assert port.inb(RBR) == ord("x")
    port.out(MCR, 0)
    port.out(THR, ord("y"))
    assert port.sink.data == b"y"


def test_loopback_disconnects_the_wire(port: Port) -> None:
    port.out(MCR, LOOP)
    port.uart.receive(b"w")
    assert port.inb(LSR) == 0x60
    port.out(MCR, 0)
    assert port.inb(LSR) == 0x61
    assert port.inb(RBR) == ord("w")


def test_loopback_overrun_replaces_the_byte_without_fifo(port: Port) -> None:
    port.out(MCR, LOOP)
    port.out(THR, 1)
    port.out(THR, 2)
    assert port.inb(LSR) == 0x63
    assert port.inb(LSR) == 0x61  # reading cleared the error
    assert port.inb(RBR) == 2


def test_loopback_overrun_loses_the_new_byte_with_fifo(port: Port) -> None:
    port.out(FCR, 0x01)
    port.out(MCR, LOOP)
    for value in range(17):
        port.out(THR, value)
    assert port.inb(LSR) == 0x63
    assert [port.inb(RBR) for _ in range(16)] == list(range(16))


def test_break_in_loopback_is_an_error_of_its_byte(port: Port) -> None:
    port.out(FCR, 0x01)
    port.out(MCR, LOOP | OUT2)
    port.out(IER, 0x04)
    port.out(THR, 0x41)
    port.out(LCR, 0x43)
    assert port.inb(LSR) == 0xE1  # error somewhere in the FIFO, not at its head
    assert port.edges() == []
    assert port.inb(RBR) == 0x41
    assert port.edges() == [True]
    assert port.inb(IIR) == 0xC6
    assert port.inb(LSR) == 0xF1
    assert port.edges() == [False]
    assert port.inb(LSR) == 0x61
    assert port.inb(RBR) == 0


def test_modem_lines_in_loopback(port: Port) -> None:
    port.out(MCR, LOOP | 0x0A)
    assert port.inb(MSR) & 0xF0 == 0x90  # RTS -> CTS, OUT2 -> DCD: what drivers look for
    port.out(MCR, LOOP | 0x05)
    assert port.inb(MSR) == 0x6B  # DSR, RI; all changed but RI has no trailing edge
    assert port.inb(MSR) == 0x60
    port.out(MCR, LOOP)
    assert port.inb(MSR) == 0x06  # DSR fell, RI's trailing edge
    port.out(MCR, 0)
    assert port.inb(MSR) == 0xBB


def test_fifo_enable_bit_and_clear(port: Port) -> None:
    port.out(FCR, 0xC0)  # not programmed without bit 0
    assert port.inb(IIR) == 0x01
    port.out(FCR, 0x01)
    assert port.inb(IIR) == 0xC1
    port.uart.receive(b"abc")
    port.out(FCR, 0x03)
    assert port.inb(LSR) == 0x60
    port.uart.receive(b"d")
    port.out(FCR, 0x00)  # changing the mode clears as well
    assert port.inb(LSR) == 0x60
    assert port.inb(IIR) == 0x01


def test_reset_lowers_the_line_and_clears(irq_port: Port) -> None:
    irq_port.out(IER, 0x01)
    irq_port.uart.receive(b"a")
    assert irq_port.edges() == [True]
    irq_port.uart.reset()
    assert irq_port.edges() == [False]
    assert [irq_port.inb(o) for o in range(8)] == [0, 0, 1, 0, 0, 0x60, 0xB0, 0]
    irq_port.out(THR, 1)
    assert irq_port.sink.data == b"\x01"


def test_input_from_another_thread_arrives_in_order(irq_port: Port) -> None:
    """A guest thread reads while another one delivers: no byte lost, doubled or swapped."""
    text = bytes(n % 251 for n in range(4000))
    irq_port.out(IER, 0x01)

    def deliver() -> None:
        sent = 0
        while sent < len(text):
            sent += irq_port.uart.receive(text[sent : sent + 7])

    got = bytearray()
    thread = threading.Thread(target=deliver)
    thread.start()
    while len(got) < len(text):
        if irq_port.inb(LSR) & 1:
            got.append(irq_port.inb(RBR))
    thread.join()
    assert got == text
    levels = irq_port.edges()
    assert levels == [n % 2 == 0 for n in range(len(levels))]  # strictly up, down, up, ...
