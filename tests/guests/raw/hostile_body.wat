;; Takes a number for an address of 64 bits, which no validator lets pass.
(component
  (core module $m (func (export "go") (result i32) (i64.const 1)))
  (core instance $i (instantiate $m))
  (func (export "go") (result u32) (canon lift (core func $i "go"))))
