"""Caption -> token ids: byte-pair encoding on bytes (CLIP section 2.4), trained on one's own captions."""

import json
import string
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from minclip.checkpoint import write_atomically

PAD, START, END = "<pad>", "<start>", "<end>"
PAD_ID, START_ID, END_ID = 0, 1, 2
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MAX_FILE = 20_000_000  # bytes of a tokenizer.json: room for some 300,000 entries
MAX_CHARACTERS = 1000  # of a text, for each token that it may have; what comes later is not looked at


class Tokenizer:
    """Lower-cased byte-level BPE with start, end and pad tokens, or one of published weights (see `empty_bpe`).

    Every string in every script can be encoded, since the 256 bytes are tokens themselves. A text
    that spells `<end>` is text, never the token.
    """

    def __init__(self, bpe) -> None:  # bpe: tokenizers.Tokenizer
        self.bpe = bpe
        self.bpe.encode_special_tokens = True  # "<end>" inside a caption stays text
        self.starts = int(type(bpe.model).__name__ != "Unigram")  # SigLIP's texts have no start token
        if [bpe.token_to_id(token) for token in (PAD, START, END)] != [PAD_ID, START_ID, END_ID]:
            raise ValueError("this tokenizer was not made by minclip: its first tokens are not pad, start, end")

    @classmethod
    def train(cls, captions: list[str], vocab_size: int = 4096) -> "Tokenizer":
        """Learn merges from captions; `vocab_size` counts 3 special tokens, 256 bytes and the merges."""
        from tokenizers import pre_tokenizers, trainers

        if vocab_size < 259:
            raise ValueError(f"vocab_size {vocab_size} is too small; 3 special tokens and 256 bytes need 259")
        bpe, alphabet = empty_bpe(), sorted(pre_tokenizers.ByteLevel.alphabet())
        bpe.train_from_iterator(
            [clean(text, 10 * MAX_CHARACTERS) for text in captions],
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
        """Texts -> long `[B, context_length]`: start, the text's tokens (cut if too many), end, padding.

        SigLIP's have no start; its padding is the end token again, and matters (`minclip.pretrained`).
        """
        return self.encode(texts, context_length)[0]

    def encode(
        self, texts: list[str], context_length: int, priority: Callable[[list[str]], list[int]] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Ids as above, and the rank of the word that each token is of, `[B, context_length]`.

        priority: words -> their ranks, such as `minclip.syntax.word_priority`; asked once, for each word once. The
        tokens of one word share its rank; where there is no word, it is 0. Without priority there are no ranks (None).
        What is a word is what the byte-level splitting says: letters, digits and punctuation part ("t-shirt" is three).

        Of each text only the first MAX_CHARACTERS * context_length characters are looked at, so that one of a million
        takes no longer. That cannot change the ids of a text whose first half of these characters fills the context,
        and whose words are shorter than the other half. Half of a surrogate pair becomes U+FFFD.
        """
        if context_length < 3:
            raise ValueError(f"context_length {context_length} is too short; start, one token and end need 3")
        if isinstance(texts, str):
            raise TypeError("expected a list of strings, got one string; write [text]")
        encodings = self.bpe.encode_batch([clean(text, MAX_CHARACTERS * context_length) for text in texts])
        rows = [encoded.ids for encoded in encodings]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)  # [B]
        flat = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.long)  # [all tokens]
        place = torch.arange(len(flat)) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)  # in its text
        room = context_length - 1 - self.starts
        fits = place < room
        lengths = lengths.clamp_(max=room) + self.starts  # with the start, so from here on the end's place
        places = torch.arange(context_length)
        content = (places >= self.starts) & (places < lengths[:, None])  # [B, L]
        ids = torch.full((len(rows), context_length), PAD_ID)
        ids[content] = flat[fits]
        ids.scatter_(1, lengths[:, None], END_ID)[:, : self.starts] = START_ID
        if priority is None:
            return ids, None
        word = torch.tensor(list(chain.from_iterable(encoded.word_ids for encoded in encodings)), dtype=torch.long)
        ranks = self.word_ranks(flat, (place == 0) | (word != word.roll(1)), priority)[fits]
        return ids, torch.zeros(ids.shape, dtype=ranks.dtype).masked_scatter_(content, ranks)

    def word_ranks(self, ids: Tensor, starts: Tensor, priority: Callable[[list[str]], list[int]]) -> Tensor:
        """The rank of each token's word; ids: long `[N]`, running text; starts: bool `[N]`, where a word begins."""
        first = starts.nonzero().flatten()  # [words]
        sizes = torch.cat([first, torch.tensor([len(ids)])]).diff()
        keys, running = ids[first].tolist(), ids.tolist()  # a word of one token is known by its id,
        longer = sizes > 1  # a longer one by all of them
        places = longer.nonzero().flatten().tolist()
        for i, start, size in zip(places, first[longer].tolist(), sizes[longer].tolist()):
            keys[i] = tuple(running[start : start + size])
        known = {key: n for n, key in enumerate(dict.fromkeys(keys))}
        words = [self.bpe.decode(key if isinstance(key, tuple) else [key]).strip() for key in known]
        ranks = torch.tensor(priority(words))  # [different words]
        if ranks.shape != (len(words),):
            raise ValueError(f"priority gave {list(ranks.shape)} ranks for {len(words)} words; it must give one a word")
        return ranks[torch.tensor([known[key] for key in keys], dtype=torch.long)].repeat_interleave(sizes)

    def decode(self, ids: Tensor | list[int]) -> str:
        """Ids -> text, special tokens left out."""
        return self.bpe.decode([int(i) for i in ids if int(i) > END_ID]).removeprefix(" ")

    def tokens(self, text: str) -> list[str]:
        """The pieces that a text is cut into, as readable strings (bytes of other scripts as they are)."""
        return [self.bpe.decode([i]) for i in self.bpe.encode(clean(text, len(text))).ids]

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` (the format of the `tokenizers` library), whole or not at all."""
        write_atomically(path, lambda part: part.write_text(self.bpe.to_str(), encoding="utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read what `save` wrote. Raises ValueError for anything else, another kind of tokenizer included.

        The file may differ from a freshly trained one in its vocabulary and merges alone: a pattern, a padding or a
        template of its own could take any time and memory, or mean something else.
        """
        from tokenizers import Tokenizer as BPE
        from tokenizers import pre_tokenizers

        letters = pre_tokenizers.ByteLevel.alphabet()
        needed = {"BPE": set(letters), "WordPiece": {"[UNK]"}, "Unigram": {"<unk>"}}
        if not Path(path).is_file() or Path(path).stat().st_size > MAX_FILE:
            raise ValueError(f"{path} is not a tokenizer file: no file, or larger than {MAX_FILE:,} bytes")
        try:
            text = Path(path).read_text(encoding="utf-8")
            content, kinds = settings(text), [settings(empty_bpe(kind).to_str()) for kind in KINDS]
            differ = [[key for key, value in content.items() if key not in k or k[key] != value] for k in kinds]
            if strange := min(differ, key=len):
                raise ValueError(f"this tokenizer was not made by minclip: it has {', '.join(strange):.80} of its own")
            tokenizer = cls(BPE.from_str(text))  # after the check: some settings make the library panic
            vocabulary = tokenizer.bpe.get_vocab()
            whole = vocabulary.keys() >= needed[content["type"]]
            if not whole or sorted(vocabulary.values()) != list(range(len(vocabulary))):
                raise ValueError(
                    "its ids are not 0, 1, 2, ... without a hole, or not every byte has one, or the unknown none"
                )
        except Exception as error:
            raise ValueError(f"{path} is not a tokenizer file ({error}); retrain or copy it again") from error
        return tokenizer


KINDS = ("minclip", "clip", "bert", "siglip")


def empty_bpe(kind: str = "minclip", pieces: Sequence = (PAD, START, END), merges: Sequence[tuple[str, str]] = ()):
    """A tokenizer of the `tokenizers` library that knows `pieces`, in the order of their ids, and `merges` alone.

    kind: `minclip`, byte-level BPE as `Tokenizer.train` makes it; `clip`, OpenAI's, which marks the ends of words;
    `bert`, WordPiece without accents (CLIPA); `siglip`, sentencepiece's Unigram without punctuation, where pieces are
    (piece, log probability). Each cleans its text as the library does in which it was published.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    n, p, d = normalizers, pre_tokenizers, decoders
    replace = lambda pattern, by: n.Replace(Regex(pattern), by)  # noqa: E731
    if kind == "siglip":
        unknown = [(piece, 0.0) for piece in (PAD, START, END, "<unk>")]
        bpe = Tokenizer(models.Unigram(unknown if pieces == (PAD, START, END) else list(pieces), 3, True))
        steps = [n.Replace("▁", " "), replace(r"(?<=\p{L})Σ(?!\p{L})", "ς"), n.Lowercase()]  # Python's final sigma
        steps.append(replace("[" + "".join(f"\\{c}" for c in string.punctuation) + "]", ""))
        kept = [("\u200d", "\ufdd0"), ("～", "\ufdd1")]  # which sentencepiece's rules leave alone, unlike Nmt and NFKC
        steps += [n.Replace(a, b) for a, b in kept] + [n.Nmt(), n.NFKC()] + [n.Replace(b, a) for a, b in kept]
        steps += [replace(r"\s+", " "), n.Strip()]
        split, decoder = p.Metaspace(), d.Metaspace()
    elif kind == "bert":
        bpe = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
        steps, split, decoder = [n.BertNormalizer()], p.BertPreTokenizer(), d.WordPiece()
    elif kind == "clip":
        bpe = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, end_of_word_suffix="</w>"))
        steps = [n.NFC(), replace(r"\s+", " "), n.Lowercase()]
        split = p.Sequence([p.Split(Regex(CLIP_WORDS), "removed", True), p.ByteLevel(False)])
        decoder = d.Sequence([d.ByteLevel(), d.Replace("</w>", " ")])
    else:
        bpe, steps, split, decoder = Tokenizer(models.BPE()), [n.NFC(), n.Lowercase()], p.ByteLevel(), d.ByteLevel()
    bpe.normalizer, bpe.pre_tokenizer, bpe.decoder = n.Sequence(steps), split, decoder
    bpe.add_special_tokens([PAD, START, END])
    return bpe


def settings(text: str) -> dict:
    """All that the content of a tokenizer's file says beside its vocabulary and merges."""
    content = json.loads(text)
    return {**content, **content["model"], "model": None, "vocab": None, "merges": None}


def clean(text: str, length: int) -> str:
    """The first `length` characters; what no encoding of Unicode can hold, half of a surrogate pair, is U+FFFD."""
    try:
        return text[:length].encode().decode()
    except UnicodeEncodeError:
        return text[:length].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class CaptionTokens:
    """All captions of all pairs, tokenised once; `pick` chooses one a pair.

    priority: words -> their ranks (`minclip.syntax.word_priority`), for `pick_with_priority`. padded: keep padding that
    all of a batch share, since the tower pools the last position (SigLIP).
    """

    def __init__(
        self,
        captions: list[list[str]],
        tokenizer: Tokenizer,
        context_length: int,
        priority: Callable[[list[str]], list[int]] | None = None,
        padded: bool = False,
    ) -> None:
        self.cut = (lambda ids: ids) if padded else cut_padding
        counts = torch.tensor([len(texts) for texts in captions])
        self.counts, self.starts = counts, counts.cumsum(0) - counts  # [N]
        texts = [text for texts in captions for text in texts]
        self.ids, self.priority = tokenizer.encode(texts, context_length, priority)  # each [all captions, L]

    def pick(self, rows: Tensor, draw: Tensor, first: float) -> Tensor:
        """One caption of each of `rows`, by uniform numbers `draw` `[B]`: ids `[B, length of the longest]`.

        The first caption with probability `first`, any of the others with what remains.

        The padding that all share is cut off: with `eos` and `mean` pooling it changes nothing but the time.
        """
        return self.cut(self.ids[self.choose(rows, draw, first)])

    def pick_with_priority(self, rows: Tensor, draw: Tensor, first: float) -> tuple[Tensor, Tensor]:
        """What `pick` gives, and the rank of each token's word, of the same shape (for `mask_text`).

        Raises ValueError when no priority was passed to the constructor.
        """
        if self.priority is None:
            raise ValueError("these captions have no priority; make CaptionTokens(..., priority=word_priority)")
        chosen = self.choose(rows, draw, first)
        ids = self.cut(self.ids[chosen])
        return ids, self.priority[chosen, : ids.shape[1]]

    def choose(self, rows: Tensor, draw: Tensor, first: float) -> Tensor:
        """Which captions `pick` takes: long `[B]`, their places in the list of all captions."""
        others = self.counts[rows] - 1  # [B]
        which = 1 + ((draw - first) / max(1 - first, 1e-9) * others).long()
        return self.starts[rows] + torch.where((draw < first) | (others == 0), 0, which)


def cut_padding(ids: Tensor) -> Tensor:
    """Ids `[B, L]` without the padding that all captions share: `[B, length of the longest]`."""
    return ids[:, : (ids != PAD_ID).sum(1).max()]
