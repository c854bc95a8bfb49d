;; Is made of more parts than a place for calls has room for: each with a memory of its own.
(component
  (core module $m
    (memory 1)
    (func (export "go") (result i32) (i32.const 1)))
  ;;repeat 40: (core instance $i{n} (instantiate $m))
  (func (export "go") (result u32) (canon lift (core func $i0 "go"))))
