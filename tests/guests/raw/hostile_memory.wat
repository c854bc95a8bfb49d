;; Wants all the memory that 32 bits can name before it does anything.
(component
  (core module $m
    (memory 65536)
    (func (export "go") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "go") (result u32) (canon lift (core func $i "go"))))
