"""The four dialects: ``nn`` (float graph), ``quant`` (types), ``qnn`` (integer graph), ``qkernel``."""
