// RUN: uqfc-opt %s | filecheck %s

func.func @main(%x: tensor<2x4xf32>, %w: tensor<3x4xi8>, %z: tensor<3xi32>, %a: tensor<3xi32>, %m: tensor<3xf32>) -> tensor<2x3xf32> {
  // CHECK: qnn.quantize %x {scale = 2.500000e-01 : f32, zero_point = 7 : i64, qmin = 0 : i64, qmax = 255 : i64} : tensor<2x4xf32> -> tensor<2x4xui8>
  %0 = qnn.quantize %x {scale = 0.25 : f32, zero_point = 7 : i64, qmin = 0 : i64, qmax = 255 : i64} : tensor<2x4xf32> -> tensor<2x4xui8>
  // CHECK-NEXT: qnn.linear %0, %w, %z, %a, %m {x_zero_point = 7 : i64, epilogue = #qnn.epilogue<3, 0:200, 0:1.0, 0.5, #nn.fn<hard_swish>>}
  %1 = qnn.linear %0, %w, %z, %a, %m {x_zero_point = 7 : i64, epilogue = #qnn.epilogue<3, 0:200, 0:1.0, 0.5, #nn.fn<hard_swish>>} : tensor<2x4xui8>, tensor<3x4xi8>, tensor<3xi32>, tensor<3xi32>, tensor<3xf32> -> tensor<2x3xui8>
  // CHECK-NEXT: qnn.linear %0, %w, %z, %a, %m residual %1 : tensor<2x3xui8> {x_zero_point = 7 : i64, epilogue = #qnn.epilogue<0, 0:255, 3:0.75, 1.0>}
  %2 = qnn.linear %0, %w, %z, %a, %m residual %1 : tensor<2x3xui8> {x_zero_point = 7 : i64, epilogue = #qnn.epilogue<0, 0:255, 3:0.75, 1.0>} : tensor<2x4xui8>, tensor<3x4xi8>, tensor<3xi32>, tensor<3xi32>, tensor<3xf32> -> tensor<2x3xui8>
  // CHECK-NEXT: qnn.dequantize %2 {scale = 5.000000e-01 : f32, zero_point = 0 : i64} : tensor<2x3xui8> -> tensor<2x3xf32>
  %3 = qnn.dequantize %2 {scale = 0.5 : f32, zero_point = 0 : i64} : tensor<2x3xui8> -> tensor<2x3xf32>
  // CHECK: qnn.float8_quantize %x {scale = 5.000000e-01 : f32} : tensor<2x4xf32> -> tensor<2x4xf8E4M3FN>
  %4 = qnn.float8_quantize %x {scale = 0.5 : f32} : tensor<2x4xf32> -> tensor<2x4xf8E4M3FN>
  // CHECK-NEXT: value = dense<"0x0001387EB8FE01020304050607"> : tensor<13xf8E5M2>
  %c = nn.constant {value = dense<"0x0001387EB8FE01020304050607"> : tensor<13xf8E5M2>} : tensor<13xf8E5M2>
  // CHECK-NEXT: nn.constant
  %v = nn.constant {value = dense<"0x000102030405060708090A0B"> : tensor<3x4xf8E5M2>} : tensor<3x4xf8E5M2>
  // CHECK-NEXT: qnn.float8_linear %4, %v, %m bias %m : tensor<3xf32> {activation = #nn.fn<relu>, scale = 2.500000e-01 : f32} : tensor<2x4xf8E4M3FN>, tensor<3x4xf8E5M2>, tensor<3xf32> -> tensor<2x3xf8E4M3FN>
  %5 = qnn.float8_linear %4, %v, %m bias %m : tensor<3xf32> {activation = #nn.fn<relu>, scale = 0.25 : f32} : tensor<2x4xf8E4M3FN>, tensor<3x4xf8E5M2>, tensor<3xf32> -> tensor<2x3xf8E4M3FN>
  // CHECK-NEXT: qnn.float8_dequantize %5 {scale = 2.500000e-01 : f32} : tensor<2x3xf8E4M3FN> -> tensor<2x3xf32>
  %6 = qnn.float8_dequantize %5 {scale = 0.25 : f32} : tensor<2x3xf8E4M3FN> -> tensor<2x3xf32>
  func.return %3 : tensor<2x3xf32>
}
