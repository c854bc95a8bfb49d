;; Has a function whose name reads backwards on a screen.
(component
  (core module $m (func (export "go") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "read\u{202e}timmoc") (result u32) (canon lift (core func $i "go"))))
