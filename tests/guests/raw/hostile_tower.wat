;; Returns a type that is short to write and, written out, has a quarter of a million parts.
(component
  (type $t0 u32)
  ;;repeat 1..7: (type $t{n} (tuple $t{n-1} $t{n-1} $t{n-1} $t{n-1} $t{n-1} $t{n-1} $t{n-1} $t{n-1}))
  (core module $m (func (export "go") (result i32) (i32.const 0)) (memory (export "memory") 1))
  (core instance $i (instantiate $m))
  (func (export "go") (result $t6) (canon lift (core func $i "go") (memory (core memory $i "memory")))))
