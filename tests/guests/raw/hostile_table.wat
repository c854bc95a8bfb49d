;; Wants a table of ten million elements before it does anything.
(component
  (core module $m
    (table 10000000 funcref)
    (func (export "go") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "go") (result u32) (canon lift (core func $i "go"))))
