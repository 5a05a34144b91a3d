"""The x87 FPU's registers, and the legacy (FXSAVE) image that states are exchanged in.

SDM Vol. 1, 8.1 and 10.5.1 (table 10-2). MMX registers are the low 64 bits of the physical registers.
"""

FXSAVE_BYTES = 512
MXCSR_RESET = 0x1F80


class FpuState:
    """x87 state. `regs` are the eight *physical* registers R0..R7, each an 80-bit unsigned int."""

    __slots__ = ("cs", "dp", "ds", "empty", "fcw", "fop", "fsw", "ip", "regs")

    def __init__(self) -> None:
        self.regs = [0] * 8
        self.fcw = 0x40
        self.fsw = 0
        """Status word, TOP (bits 11-13) included."""
        self.empty = 0
        """Bit n: physical register n is empty (tag 11B). The full tag word follows from the contents."""
        self.fop = 0
        self.ip = 0
        """Last instruction's offset (64 bits) and, outside 64-bit mode, its CS; the same for the operand."""
        self.cs = 0
        self.dp = 0
        self.ds = 0
        self.reset()

    def reset(self) -> None:
        """After RESET (SDM Vol. 3A, table 10-1): FCW 0x40, all tags valid, registers zero."""
        self.regs[:] = [0] * 8
        self.fcw, self.fsw, self.empty = 0x40, 0, 0
        self.fop = self.ip = self.cs = self.dp = self.ds = 0

    def init(self) -> None:
        """FNINIT: FCW 0x37F, everything empty; register contents stay."""
        self.fcw, self.fsw, self.empty = 0x37F, 0, 0xFF
        self.fop = self.ip = self.cs = self.dp = self.ds = 0

    def legacy_image(self, xmm: list[int], mxcsr: int, mxcsr_mask: int) -> bytearray:
        """The 512-byte FXSAVE64 image (REX.W form: 64-bit instruction and operand pointers)."""
        image = bytearray(FXSAVE_BYTES)
        image[0:2] = self.fcw.to_bytes(2, "little")
        image[2:4] = self.fsw.to_bytes(2, "little")
        image[4] = ~self.empty & 0xFF
        image[6:8] = self.fop.to_bytes(2, "little")
        image[8:16] = (self.ip & (1 << 64) - 1).to_bytes(8, "little")
        image[16:24] = (self.dp & (1 << 64) - 1).to_bytes(8, "little")
        image[24:28] = mxcsr.to_bytes(4, "little")
        image[28:32] = mxcsr_mask.to_bytes(4, "little")
        top = self.fsw >> 11 & 7
        for n in range(8):
            image[32 + 16 * n : 42 + 16 * n] = self.regs[(top + n) & 7].to_bytes(10, "little")
        for n, value in enumerate(xmm):
            image[160 + 16 * n : 176 + 16 * n] = value.to_bytes(16, "little")
        return image

    def load_x87(self, image: bytes) -> None:
        """Take FCW to ST7 (bytes 0..159) out of a FXSAVE64 image."""
        self.fcw = int.from_bytes(image[0:2], "little")
        self.fsw = int.from_bytes(image[2:4], "little")
        self.empty = ~image[4] & 0xFF
        self.fop = int.from_bytes(image[6:8], "little") & 0x7FF
        self.ip = int.from_bytes(image[8:16], "little")
        self.dp = int.from_bytes(image[16:24], "little")
        self.cs = self.ds = 0
        top = self.fsw >> 11 & 7
        for n in range(8):
            self.regs[(top + n) & 7] = int.from_bytes(image[32 + 16 * n : 42 + 16 * n], "little")
