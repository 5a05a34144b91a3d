"""What firmware tables tell a guest about its processors and interrupt controllers.

The addresses and numbers come from the board (minihv/machine); nothing here knows a default.
"""

from typing import NamedTuple


class Platform(NamedTuple):
    """The board as ACPI and MP tables describe it. APIC ids of the processors are 0..cpus-1.

    `overrides` maps an ISA IRQ to the IOAPIC input (GSI) it is wired to, where the two differ. Ports are
    I/O port numbers, addresses are GPAs.
    """

    cpus: int
    lapic_address: int
    ioapic_address: int
    ioapic_id: int
    overrides: tuple[tuple[int, int], ...]
    sci_irq: int
    pm1_event_port: int
    """Four bytes: status and enable of PM1 events, of which this board raises none."""
    pm1_control_port: int
    """Two bytes; `S5_WRITE` as a word powers off."""
    reset_port: int
    reset_value: int
    cpu_signature: int = 0
    """CPUID leaf 1 EAX, for the MP table; 0 where it is not known."""
    cpu_features: int = 0x201
    """CPUID leaf 1 EDX; FPU and APIC where nothing more is known."""
