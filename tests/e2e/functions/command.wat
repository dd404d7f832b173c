;; A plain preview-1 command: copies stdin to stdout, then says on stderr that it did.
;; An event that starts with `!` makes it trap, one with `?` exit with 3, one with `~` run for ever,
;; one with `+` ask for more memory than it may have.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "copied it\n")
  (func (export "_start") (local $count i32) (local $first i32)
    (loop $again
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $count (i32.load (i32.const 8)))
      (if (local.get $count)
        (then
          ;; The second byte of a JSON string is its first letter.
          (local.set $first (i32.load8_u (i32.const 1025)))
          (if (i32.eq (local.get $first) (i32.const 33)) (then unreachable))
          (if (i32.eq (local.get $first) (i32.const 63)) (then (call $exit (i32.const 3))))
          (if (i32.eq (local.get $first) (i32.const 126)) (then (loop $spin (br $spin))))
          (if (i32.eq (local.get $first) (i32.const 43))
            (then (if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable))))
          (i32.store (i32.const 4) (local.get $count))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br $again))))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 10))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))
