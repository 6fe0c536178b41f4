// The bytes of the image's entrypoint, for images that lack it (task_definition.cc).
    .section .rodata
    .global sbxfs_entrypoint_begin
    .global sbxfs_entrypoint_end
sbxfs_entrypoint_begin:
    .incbin "scripts/image/entrypoint"
sbxfs_entrypoint_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits
