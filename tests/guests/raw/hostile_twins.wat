(module
  (func (export "good:pay/refunds@1.0.0#create") (result i32) (i32.const 1))
  (func (export "evil:pay/refunds@1.0.0#create") (result i32) (i32.const 2)))
