"""Float models and data: the zoo (architectures, weights, datasets) and safe readers for what people bring."""
