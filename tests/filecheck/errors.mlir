// RUN: uqfc-opt %s -p no-such-pass 2>&1 | filecheck %s --check-prefix PASS
// RUN: uqfc-opt %s -p eliminate-dead-code{level=2} 2>&1 | filecheck %s --check-prefix OPTION
// RUN: uqfc-opt %s 2>&1 | filecheck %s --check-prefix INVALID

func.func @main(%x: tensor<2xi32>) -> tensor<2xi32> {
  %0 = nn.unary %x {fn = #nn.fn<relu>} : tensor<2xi32> -> tensor<2xi32>
  func.return %0 : tensor<2xi32>
}

// PASS: uqfc-opt: error: --passes: Unrecognized passes: ['no-such-pass']
// OPTION: uqfc-opt: error: --passes: Provided arguments ["level"] not found in expected arguments []
// INVALID: uqfc-opt: error: errors.mlir: {{.*}}nn.unary takes float32
