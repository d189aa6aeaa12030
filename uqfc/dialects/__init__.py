"""The dialects: ``nn`` (float graph), ``quant`` (types), ``qnn`` (integers), ``qkernel``."""
