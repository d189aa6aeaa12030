// RUN: uqfc-opt %s -p recognize-idioms,eliminate-dead-code | filecheck %s

// CHECK-LABEL: func.func @hard_swish
// CHECK-NEXT:  nn.unary %x {layer = "act", fn = #nn.fn<hard_swish>}
// CHECK-NEXT:  func.return
func.func @hard_swish(%x: tensor<4xf32>) -> tensor<4xf32> {
  %three = nn.constant {value = dense<3.0> : tensor<f32>} : tensor<f32>
  %six = nn.constant {value = dense<6.0> : tensor<f32>} : tensor<f32>
  %0 = nn.add %x, %three : tensor<4xf32>, tensor<f32> -> tensor<4xf32>
  %1 = nn.unary %0 {fn = #nn.fn<clip, 0.0, 6.0>} : tensor<4xf32> -> tensor<4xf32>
  %2 = nn.mul %x, %1 : tensor<4xf32>, tensor<4xf32> -> tensor<4xf32>
  %3 = nn.div %2, %six {layer = "act"} : tensor<4xf32>, tensor<f32> -> tensor<4xf32>
  func.return %3 : tensor<4xf32>
}

// CHECK-LABEL: func.func @clips
// CHECK-NEXT:  nn.unary %x {fn = #nn.fn<clip, 0.0, 6.0>}
// CHECK-NEXT:  func.return
func.func @clips(%x: tensor<4xf32>) -> tensor<4xf32> {
  %six = nn.constant {value = dense<6.0> : tensor<f32>} : tensor<f32>
  %0 = nn.unary %x {fn = #nn.fn<relu>} : tensor<4xf32> -> tensor<4xf32>
  %1 = nn.minimum %six, %0 : tensor<f32>, tensor<4xf32> -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}
