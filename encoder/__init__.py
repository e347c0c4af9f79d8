"""Audio in, node matrices and fingerprints out: decoding, features, graph network, checkpoints, training."""
