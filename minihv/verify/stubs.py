"""The harness guest's ring-3 code: save the state a case left behind, load the next one, and go there.

It is entered at SAVE by the IRETQ of the exception handlers, with all registers but RSP and RFLAGS as the
tested instruction left them, and leaves a case by IRETQ with RFLAGS.TF set: the trap comes after exactly one
instruction (SDM Vol. 3B, 18.3.1.4). Ring 0 does next to nothing, because some hosts emulate it.
"""

_CODE = (
    # SAVE:
    "48a31810000007000000"  # movabs [VARS+24], rax
    "48a10810000007000000"  # movabs rax, [VARS+8]
    "48898808020000"  # mov [rax+520], rcx
    "48899010020000"  # mov [rax+528], rdx
    "48899818020000"  # mov [rax+536], rbx
    "4889a828020000"  # mov [rax+552], rbp
    "4889b030020000"  # mov [rax+560], rsi
    "4889b838020000"  # mov [rax+568], rdi
    "4c898040020000"  # mov [rax+576], r8
    "4c898848020000"  # mov [rax+584], r9
    "4c899050020000"  # mov [rax+592], r10
    "4c899858020000"  # mov [rax+600], r11
    "4c89a060020000"  # mov [rax+608], r12
    "4c89a868020000"  # mov [rax+616], r13
    "4c89b070020000"  # mov [rax+624], r14
    "4c89b878020000"  # mov [rax+632], r15
    "48bb0010000007000000"  # movabs rbx, VARS
    "488b4b18"  # mov rcx, [rbx+24]
    "48898800020000"  # mov [rax+512], rcx
    "480fae00"  # fxsave64 [rax]
    "48beb82f000007000000"  # movabs rsi, FRAME
    "488db880020000"  # lea rdi, [rax+640]
    "b908000000"  # mov ecx, 8
    "f348a5"  # rep movsq
    # TAIL:
    "8c98d0020000"  # mov [rax+720], ds
    "8c80d2020000"  # mov [rax+722], es
    "8ca0d4020000"  # mov [rax+724], fs
    "8ca8d6020000"  # mov [rax+726], gs
    "f3480faec1"  # rdfsbase rcx
    "488988c0020000"  # mov [rax+704], rcx
    "f3480faec9"  # rdgsbase rcx
    "488988c8020000"  # mov [rax+712], rcx
    "be400f5000"  # mov esi, W0
    "488db800030000"  # lea rdi, [rax+768]
    "b930000000"  # mov ecx, 48
    "f348a5"  # rep movsq
    "be801d5000"  # mov esi, W1
    "b950000000"  # mov ecx, 80
    "f348a5"  # rep movsq
    "48810300080000"  # add qword ptr [rbx], 2048
    "4881430800080000"  # add qword ptr [rbx+8], 2048
    "48ff4b10"  # dec qword ptr [rbx+16]
    "0f84cd000000"  # jz done
    # LOAD:
    "48bb0010000007000000"  # movabs rbx, VARS
    "488b13"  # mov rdx, [rbx]
    "488db2d0020000"  # lea rsi, [rdx+720]
    "488bbaa8020000"  # mov rdi, [rdx+680]
    "488b8ab0020000"  # mov rcx, [rdx+688]
    "f3a4"  # rep movsb
    "488db200030000"  # lea rsi, [rdx+768]
    "bf400f5000"  # mov edi, W0
    "b930000000"  # mov ecx, 48
    "f348a5"  # rep movsq
    "bf801d5000"  # mov edi, W1
    "b950000000"  # mov ecx, 80
    "f348a5"  # rep movsq
    "8e9ac8020000"  # mov ds, [rdx+712]
    "8e82ca020000"  # mov es, [rdx+714]
    "8ea2cc020000"  # mov fs, [rdx+716]
    "8eaace020000"  # mov gs, [rdx+718]
    "480fae0a"  # fxrstor64 [rdx]
    "488b82b8020000"  # mov rax, [rdx+696]
    "f3480faed0"  # wrfsbase rax
    "488b82c0020000"  # mov rax, [rdx+704]
    "f3480faed8"  # wrgsbase rax
    "488da280020000"  # lea rsp, [rdx+640]
    "488b442480"  # mov rax, [rsp-128]
    "488b4c2488"  # mov rcx, [rsp-120]
    "488b542490"  # mov rdx, [rsp-112]
    "488b5c2498"  # mov rbx, [rsp-104]
    "488b6c24a8"  # mov rbp, [rsp-88]
    "488b7424b0"  # mov rsi, [rsp-80]
    "488b7c24b8"  # mov rdi, [rsp-72]
    "4c8b4424c0"  # mov r8, [rsp-64]
    "4c8b4c24c8"  # mov r9, [rsp-56]
    "4c8b5424d0"  # mov r10, [rsp-48]
    "4c8b5c24d8"  # mov r11, [rsp-40]
    "4c8b6424e0"  # mov r12, [rsp-32]
    "4c8b6c24e8"  # mov r13, [rsp-24]
    "4c8b7424f0"  # mov r14, [rsp-16]
    "4c8b7c24f8"  # mov r15, [rsp-8]
    "48cf"  # iretq
    # done:
    "cd04"  # int 4
)  # fmt: skip
"""As assembled by GNU as with VARS, FRAME, W0 and W1 at the addresses of `layout`; a test compares them."""

CODE = bytes.fromhex("".join(_CODE))
SAVE, TAIL, LOAD = 0, 0xA8, 0x112
"""Offsets of the entries; TAIL is for whoever has saved registers, FPU state and frame already, with the
result's address in RAX and VARS in RBX."""
