// RUN: uqfc-opt %s | filecheck %s

func.func @main(%x: tensor<2x4xf32>, %w: tensor<2x4xi4>) -> tensor<2x4xf32> {
  // CHECK: quant.observe %x {point = "x"} : tensor<2x4xf32> -> tensor<2x4xf32>
  %0 = quant.observe %x {point = "x"} : tensor<2x4xf32> -> tensor<2x4xf32>
  // CHECK-NEXT: tensor<2x4x!quant.uniform<u8:f32, 0.02:128>>
  %1 = quant.qcast %0 : tensor<2x4xf32> -> tensor<2x4x!quant.uniform<u8:f32, 0.02:128>>
  %2 = quant.dcast %1 : tensor<2x4x!quant.uniform<u8:f32, 0.02:128>> -> tensor<2x4xf32>
  // CHECK: tensor<2x4x!quant.uniform<i4:f32:0, {0.021:-1, 0.018}>>
  %3 = quant.scast %w : tensor<2x4xi4> -> tensor<2x4x!quant.uniform<i4:f32:0, {0.021:-1, 0.018}>>
  // CHECK: tensor<2x4x!quant.uniform<i8<-127:127>:f32, 0.5>>
  %4 = quant.qcast %2 : tensor<2x4xf32> -> tensor<2x4x!quant.uniform<i8<-127:127>:f32, 0.5>>
  // CHECK: tensor<2x4x!quant.uniform<u4:f32:{1:2}, {0.5:8, 0.25:7, 0.5, 1.0}>>
  %5 = quant.qcast %2 : tensor<2x4xf32> -> tensor<2x4x!quant.uniform<u4:f32:{1:2}, {0.5:8, 0.25:7, 0.5, 1.0}>>
  // CHECK: tensor<2x4x!quant.uniform<f8E4M3FN:f32, 0.02>>
  %6 = quant.qcast %2 : tensor<2x4xf32> -> tensor<2x4x!quant.uniform<f8E4M3FN:f32, 0.02>>
  // CHECK: tensor<2x4x!quant.uniform<f8E5M2:f32:0, {0.5, 0.25}>>
  %7 = quant.qcast %2 : tensor<2x4xf32> -> tensor<2x4x!quant.uniform<f8E5M2:f32:0, {0.5, 0.25}>>
  func.return %2 : tensor<2x4xf32>
}
