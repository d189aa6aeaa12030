"""How float ops on quantized values become integer ops; used by ``convert-to-integer``."""
