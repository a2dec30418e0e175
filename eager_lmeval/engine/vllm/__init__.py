"""The engine on vLLM: its kernels and its paged keys and values, our gate, branching and draws.

Knows vLLM's public engine interface and its two interfaces for logits processors. vLLM itself is imported by `draws`
alone, which runs in vLLM's workers too.
"""
