"""Tokenizers of both families, made here: byte-level, and like sentencepiece."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<eos>", "<eot>"]
MARKERS = ["<think>", "</think>"]


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE: every byte is a token, and a few merges make tokens of several characters."""
    vocab = {token: place for place, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("t", "h"), ("th", "e"), ("Ċ", "Ċ"), ("Q", ":"), ("Ġ", "Q"), ("e", "n"), ("en", "d"), (".", "Ċ")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_markers(tokenizer)


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A sentencepiece-like tokenizer: words begin with ▁, which is dropped at the beginning of a text."""
    characters = [*"▁abcdefghijklmnopqrstuvwxyz.:\nQ", "▁the", "▁end", "▁Q", "▁Q:", "the"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocab = {token: place for place, token in enumerate(["<unk>", *bytes_, *characters])}
    model = models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _with_markers(tokenizer)


def _with_markers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in MARKERS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
