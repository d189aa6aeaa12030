// RUN: uqfc-opt %s -p eliminate-dead-code | filecheck %s

// An observer is kept: calibration reads it.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:  quant.observe
// CHECK-NEXT:  func.return %x
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = nn.unary %x {fn = #nn.fn<relu>} : tensor<4xf32> -> tensor<4xf32>
  %1 = nn.add %0, %x : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
  %2 = quant.observe %x {point = "x"} : tensor<4xf32> -> tensor<4xf32>
  func.return %x : tensor<4xf32>
}
