;; Returns lists of lists of lists, deeper than a reader that calls itself for each should have to go.
(component
  (type $t0 u32)
  ;;repeat 1..5000: (type $t{n} (list $t{n-1}))
  (core module $m (func (export "go") (result i32) (i32.const 0)) (memory (export "memory") 1))
  (core instance $i (instantiate $m))
  (func (export "go") (result $t4999) (canon lift (core func $i "go") (memory (core memory $i "memory")))))
