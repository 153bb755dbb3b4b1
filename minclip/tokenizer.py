"""Caption -> token ids: byte-pair encoding on bytes (CLIP section 2.4), trained on one's own captions."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor

PAD, START, END = "<pad>", "<start>", "<end>"
PAD_ID, START_ID, END_ID = 0, 1, 2


class Tokenizer:
    """Lower-cased byte-level BPE with start, end and pad tokens.

    Every string in every script can be encoded, since the 256 bytes are tokens themselves. A text
    that spells `<end>` is text, never the token.
    """

    def __init__(self, bpe) -> None:  # bpe: tokenizers.Tokenizer
        self.bpe = bpe
        self.bpe.encode_special_tokens = True  # "<end>" inside a caption stays text
        if [bpe.token_to_id(token) for token in (PAD, START, END)] != [PAD_ID, START_ID, END_ID]:
            raise ValueError("this tokenizer was not made by minclip: its first tokens are not pad, start, end")

    @classmethod
    def train(cls, captions: list[str], vocab_size: int = 4096) -> "Tokenizer":
        """Learn merges from captions; `vocab_size` counts 3 special tokens, 256 bytes and the merges."""
        from tokenizers import Tokenizer as BPE
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        if vocab_size < 259:
            raise ValueError(f"vocab_size {vocab_size} is too small; 3 special tokens and 256 bytes need 259")
        bpe = BPE(models.BPE())
        bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        bpe.train_from_iterator(
            captions,
            trainers.BpeTrainer(
                vocab_size=vocab_size, special_tokens=[PAD, START, END], initial_alphabet=alphabet, show_progress=False
            ),
        )
        return cls(bpe)

    @property
    def vocab_size(self) -> int:
        """Number of different ids."""
        return self.bpe.get_vocab_size()

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        """Texts -> long `[B, context_length]`: start, the text's tokens (cut if too many), end, padding."""
        if context_length < 3:
            raise ValueError(f"context_length {context_length} is too short; start, one token and end need 3")
        if isinstance(texts, str):
            raise TypeError("expected a list of strings, got one string; write [text]")
        ids = torch.full((len(texts), context_length), PAD_ID)  # [B, L]
        for row, encoded in enumerate(self.bpe.encode_batch(list(texts))):
            tokens = [START_ID, *encoded.ids[: context_length - 2], END_ID]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids

    def decode(self, ids: Tensor | list[int]) -> str:
        """Ids -> text, special tokens left out."""
        return self.bpe.decode([int(i) for i in ids if int(i) > END_ID]).removeprefix(" ")

    def tokens(self, text: str) -> list[str]:
        """The pieces that a text is cut into, as readable strings (bytes of other scripts as they are)."""
        return [self.bpe.decode([i]) for i in self.bpe.encode(text).ids]

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` (the format of the `tokenizers` library), whole or not at all."""
        part = Path(f"{path}.part")
        part.write_text(self.bpe.to_str(), encoding="utf-8")
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read what `save` wrote. Raises ValueError if the file is not a tokenizer."""
        from tokenizers import Tokenizer as BPE

        text = Path(path).read_text(encoding="utf-8")
        try:
            json.loads(text)
            bpe = BPE.from_str(text)
        except Exception as error:
            raise ValueError(f"{path} is not a tokenizer file ({error}); retrain or copy it again") from error
        return cls(bpe)


class CaptionTokens:
    """All captions of all pairs, tokenised once; `pick` chooses one a pair."""

    def __init__(self, captions: list[list[str]], tokenizer: Tokenizer, context_length: int) -> None:
        counts = torch.tensor([len(texts) for texts in captions])
        self.counts, self.starts = counts, counts.cumsum(0) - counts  # [N]
        self.ids = tokenizer([text for texts in captions for text in texts], context_length)  # [all captions, L]

    def pick(self, rows: Tensor, draw: Tensor, first: float) -> Tensor:
        """One caption of each of `rows`, by uniform numbers `draw` `[B]`: ids `[B, length of the longest]`.

        The first caption with probability `first`, any of the others with what remains.

        The padding that all share is cut off: with `eos` and `mean` pooling it changes nothing but the time.
        """
        others = self.counts[rows] - 1  # [B]
        which = 1 + ((draw - first) / max(1 - first, 1e-9) * others).long()
        which = torch.where((draw < first) | (others == 0), 0, which)
        ids = self.ids[self.starts[rows] + which]  # [B, L]
        return ids[:, : (ids != PAD_ID).sum(1).max()]
