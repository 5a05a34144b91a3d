"""The kvm engine: the processor's own virtualization, through /dev/kvm.

system.py   /dev/kvm: capabilities, CPUID, MSR list, VM creation
vm.py       one VM: memory slots, interrupt controllers, vCPU creation
vcpu.py     one vCPU: KVM_RUN, kick, answers
decode.py   kvm_run -> Exit
state.py    KVM structures <-> CpuState
site.py     which instruction caused an exit
cpuid.py    what is changed in the CPUID that is passed through, and why
statsfd.py  the kernel's own counters
kind.py     VT-x, AMD-V, nested or PVM
engine.py   all of it behind `minihv.interfaces.Engine`
abi.py, kernel.py, _ffi_build.py, _cffi.py: numbers, the ioctl call, the C structures
"""
