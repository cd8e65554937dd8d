"""ipt-stream: raw shards in, instruction-augmented training data and pre-trained models out."""
