"""The machine code of the native process: Linux's signals do what ring 0 of `image` does in a guest.

It maps the harness's pages, asks for the signals that exceptions become, and waits on its standard input. A
byte there starts a batch. The kernel's signal frame (asm/sigcontext.h, asm/ucontext.h) is where the tested
instruction's state is found; nothing ever returns from a signal, LOAD goes on with the next case.
"""

_CODE = (
    # start:
    "488d1d11020000"  # lea rbx, [rip+table]
    "488b3b"  # mov rdi, [rbx]
    "4885ff"  # test rdi, rdi
    "7426"  # jz 2f
    "488b7308"  # mov rsi, [rbx+8]
    "488b5310"  # mov rdx, [rbx+16]
    "41ba11800000"  # mov r10d, 0x8011
    "4c8b05ec010000"  # mov r8, [rip+table-8]
    "4c8b4b18"  # mov r9, [rbx+24]
    "b809000000"  # mov eax, 9
    "0f05"  # syscall
    "4883c320"  # add rbx, 32
    "ebd2"  # jmp 1b
    "488d3d94010000"  # lea rdi, [rip+altstack]
    "31f6"  # xor esi, esi
    "b883000000"  # mov eax, 131
    "0f05"  # syscall
    "488d1dbc010000"  # lea rbx, [rip+signals]
    "0fb63b"  # movzx edi, byte ptr [rbx]
    "85ff"  # test edi, edi
    "0f842a010000"  # jz wait
    "488d358a010000"  # lea rsi, [rip+action]
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8
    "b80d000000"  # mov eax, 13
    "0f05"  # syscall
    "48ffc3"  # inc rbx
    "ebda"  # jmp 3b
    # handler:
    "6802020000"  # push 0x202
    "9d"  # popfq
    "48bb0010000007000000"  # movabs rbx, VARS
    "48837b1000"  # cmp qword ptr [rbx+16], 0
    "0f84f4000000"  # je wait
    "4c8d4228"  # lea r8, [rdx+40]
    "488b4308"  # mov rax, [rbx+8]
    "498b4868"  # mov rcx, [r8+104]
    "48898800020000"  # mov [rax+512], rcx
    "498b4870"  # mov rcx, [r8+112]
    "48898808020000"  # mov [rax+520], rcx
    "498b4860"  # mov rcx, [r8+96]
    "48898810020000"  # mov [rax+528], rcx
    "498b4858"  # mov rcx, [r8+88]
    "48898818020000"  # mov [rax+536], rcx
    "498b4850"  # mov rcx, [r8+80]
    "48898828020000"  # mov [rax+552], rcx
    "498b4848"  # mov rcx, [r8+72]
    "48898830020000"  # mov [rax+560], rcx
    "498b4840"  # mov rcx, [r8+64]
    "48898838020000"  # mov [rax+568], rcx
    "4c89c6"  # mov rsi, r8
    "488db840020000"  # lea rdi, [rax+576]
    "b908000000"  # mov ecx, 8
    "f348a5"  # rep movsq
    "498b88a0000000"  # mov rcx, [r8+160]
    "48898880020000"  # mov [rax+640], rcx
    "498b8898000000"  # mov rcx, [r8+152]
    "48898888020000"  # mov [rax+648], rcx
    "498b8880000000"  # mov rcx, [r8+128]
    "48898890020000"  # mov [rax+656], rcx
    "410fb78890000000"  # movzx ecx, word ptr [r8+144]
    "48898898020000"  # mov [rax+664], rcx
    "498b8888000000"  # mov rcx, [r8+136]
    "488988a0020000"  # mov [rax+672], rcx
    "498b4878"  # mov rcx, [r8+120]
    "488988a8020000"  # mov [rax+680], rcx
    "410fb78896000000"  # movzx ecx, word ptr [r8+150]
    "488988b0020000"  # mov [rax+688], rcx
    "498b88b0000000"  # mov rcx, [r8+176]
    "488988b8020000"  # mov [rax+696], rcx
    "498bb0b8000000"  # mov rsi, [r8+184]
    "4889c7"  # mov rdi, rax
    "b940000000"  # mov ecx, 64
    "f348a5"  # rep movsq
    "48b9a800000007000000"  # movabs rcx, STUBS+TAIL
    "ffe1"  # jmp rcx
    # wait:
    "bf01000000"  # mov edi, 1
    "48be2010000007000000"  # movabs rsi, VARS+32
    "ba01000000"  # mov edx, 1
    "b801000000"  # mov eax, 1
    "0f05"  # syscall
    "31ff"  # xor edi, edi
    "48be2010000007000000"  # movabs rsi, VARS+32
    "ba01000000"  # mov edx, 1
    "31c0"  # xor eax, eax
    "0f05"  # syscall
    "83f801"  # cmp eax, 1
    "750c"  # jne 4f
    "48b91201000007000000"  # movabs rcx, STUBS+LOAD
    "ffe1"  # jmp rcx
    "31ff"  # xor edi, edi
    "b8e7000000"  # mov eax, 231
    "0f05"  # syscall
    # restorer:
    "0f0b"  # ud2
    "0f1f00"  # nop    DWORD PTR [rax]
)  # fmt: skip
"""As assembled by GNU as, up to where the data begins; a test compares them."""

CODE = bytes.fromhex("".join(_CODE))
ALT_STACK, ACTION, SIGNALS, FD, TABLE = 0x1D0, 0x1E8, 0x208, 0x210, 0x218
"""Offsets of the data: stack_t, struct kernel_sigaction, signal numbers (bytes, 0 ends), descriptor of the
memory, and what to map (address, bytes, PROT, offset; address 0 ends)."""
HANDLER, RESTORER = 0x72, 0x1CB
