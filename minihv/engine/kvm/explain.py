"""What the kvm engine does with one instruction: mostly nothing, and that is the point."""

from minihv.engine.kvm.kind import KIND_WORDS, kvm_kind
from minihv.stats import EXIT_NAMES
from minihv.x86.delivery import cpl
from minihv.x86.sensitive import mark
from minihv.x86.steps import SiteExits, Step


class KvmNarrator:
    """`minihv.x86.steps.Narrator` of the kvm engine on this host."""

    def __init__(self, kind: str | None = None) -> None:
        """`kind`: a key of KIND_WORDS; None: this host's."""
        self.kind = kind or kvm_kind()

    def heading(self) -> str:
        return f"the processor, under KVM; here that is {KIND_WORDS[self.kind]}"

    def tell(self, step: Step, exits: tuple[SiteExits, ...]) -> list[str]:
        ring = cpl(step.before)
        lines = [self._who(ring)]
        if exits:
            lines.append("it could not be finished without minihv: the guest was left, see the path below")
        elif mark(step.text) is None:
            lines.append("nobody was asked: no exit belongs to it")
        else:
            lines.append(
                "no exit to minihv belongs to it: whatever it took, processor and kernel did alone "
                "(such exits show only in the kernel's own counters)"
            )
        return lines

    def _who(self, ring: int) -> str:
        if self.kind == "pvm" and ring == 0:
            return (
                "ring 0 under PVM: EMULATED by the host's kernel, no processor executed it "
                "(under VT-x or AMD-V the processor does)"
            )
        return f"ring {ring}: executed by the processor itself, at full speed"

    def exit_name(self, name: str) -> str:
        kvm, vmx, svm = EXIT_NAMES.get(name, (name, "-", "-"))
        if self.kind == "pvm":
            return f"{kvm} from PVM's emulator; VT-x calls it {vmx}, AMD-V {svm}"
        return f"{kvm}; {vmx if 'vt-x' in self.kind else svm if 'amd-v' in self.kind else 'hardware unknown'}"
