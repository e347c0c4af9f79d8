"""Training of encoders: stem cache, pairs, augmentation on the device, contrastive loss, the loop."""
