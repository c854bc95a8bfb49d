(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "ambit-tests:hostile-undo/payments@0.1.0#deposit") (param i32 i32) (result i32) (i32.const 1))
  (func (export "ambit-tests:hostile-undo/payments@0.1.0#withdraw") (param i32 i32) (result i32) (i32.const 1)))
