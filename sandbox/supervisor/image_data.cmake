# Writes an assembler file that carries both programs and the SHA-256 of each to OUT.
set(text ".section .rodata\n")
foreach(arch amd64 arm64)
    set(program ${DIR}/sbxfs-supervisor-${arch})
    file(SHA256 ${program} hash)
    string(APPEND text "
    .balign 16
    .globl sbxfs_supervisor_${arch}_begin
sbxfs_supervisor_${arch}_begin:
    .incbin \"${program}\"
    .globl sbxfs_supervisor_${arch}_end
sbxfs_supervisor_${arch}_end:
    .globl sbxfs_supervisor_${arch}_hash
sbxfs_supervisor_${arch}_hash:
    .asciz \"${hash}\"
")
endforeach()
string(APPEND text ".section .note.GNU-stack,\"\",%progbits\n")
file(WRITE ${OUT} "${text}")
