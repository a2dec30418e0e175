"""The engine's tensors on a causal language model of transformers: forward passes and the slots of keys and values.

Knows the model and the device. Does not know trees, gates or which prompt a slot belongs to.
"""
