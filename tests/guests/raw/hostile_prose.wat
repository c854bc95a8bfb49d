;; Drives the terminal of whoever reads its documentation.
(component
  (core module $m (func (export "go") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "go") (result u32) (canon lift (core func $i "go")))
  (@custom "package-docs" "\01{\"worlds\":{\"root\":{\"docs\":\"\\u001b[2J\\u009b31m\\u202eharmless\",\"func_exports\":{\"go\":{\"docs\":\"\\u001b]0;owned\\u0007\\r\\u2066Reads.\"}}}}}")
  (@custom "ambit-docs" "{\"world\":\"ambit:stripe\\u001b[2J/tool\\u202e@1.0.0\\r\",\"packages\":{}}"))
