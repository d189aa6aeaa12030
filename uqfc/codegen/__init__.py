"""Native code: kernels, entry points, linking. The only package that imports llvmlite."""
