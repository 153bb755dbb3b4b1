"""Published tokenizers with our ids: token for token what the publishers' own libraries give, in many scripts."""

import io
import json

import pytest
import torch

from minclip.pretrained import read_tokenizer
from minclip.tokenizer import END_ID, PAD_ID, START_ID, Tokenizer

transformers = pytest.importorskip("transformers")

CAPTIONS = [
    "a photo of a cat", "", " ", "A RED heart!", "it's the dog's ball, isn't it? they've 42 of them",
    "  two\t blanks\n and  lines ", "Crème brûlée à l'hôtel", "cafe\u0301 and café", "Straße ÆØÅ ĳ ﬁne ½ ①",
    "Привет, мир: ёлка", "Ελληνικά ΟΔΥΣΣΕΥΣ ΣΑΣ Σ", "İstanbul ıI", "مرحبا بالعالم", "שלום עולם",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "你好，世界", "日本語のテキスト、カタカナ", "한국어 텍스트",
    "ｆｕｌｌ\u3000ｗｉｄｔｈ", "👩\u200d👩\u200d👧\u200d👦 a family 👍🏽", "🇩🇪 flag",
    "zero\x00byte and \x07bell \x1b[0m", "soft\xadhyphen zero\u200bwidth \ufeffmark",
    "no\xa0break \u3000wide \u2028line", "<|startoftext", "# * _under_score_ ~tilde~ `code` [x] {y} \\ ^ |",
    "http://example.org/a?b=c&d=1", "▁piece ▁▁ of paper", "x" * 300, "word " * 200, "1234567890",
    "a" + "\u0301" * 20, "ﷺ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "e.g. U.S.A.", "“curly” ‘quotes’ – dashes — …", "�\ue000",
]  # fmt: skip
LONG = 40


@pytest.fixture(scope="module")
def corpus():
    return [caption for caption in CAPTIONS if len(caption) < 100] * 3 + ["a photo of a red cat and two dogs"] * 9


def check(ours, theirs, start, end):
    """Our ids, mapped to the publisher's, are the publisher's; beyond the text there is the end, then padding."""
    tokenizer, rows = ours
    ids = tokenizer(CAPTIONS, LONG)
    for caption, found, expected in zip(CAPTIONS, ids, theirs, strict=True):
        n = min(len(expected), LONG - 1 - len(start))
        content = torch.tensor(rows)[found[len(start) : len(start) + n]].tolist()
        assert content == expected[:n], (caption, content, expected)
        assert found[: len(start)].tolist() == [START_ID] * len(start) and found[len(start) + n] == END_ID
        assert (found[len(start) + n + 1 :] == PAD_ID).all()
    assert rows[:3] == [rows[0], *(start or [end]), end]
    assert len(rows) == tokenizer.vocab_size
    return ids


def comes_back(tokenizer, ids, tmp_path):
    tokenizer.save(tmp_path / "ours.json")
    again = Tokenizer.load(tmp_path / "ours.json")
    assert torch.equal(again(CAPTIONS, LONG), ids) and again.vocab_size == tokenizer.vocab_size


def test_clips_bpe_is_that_of_transformers_and_open_clip(tmp_path):
    """With the real vocabulary of CLIP, which open_clip's package holds."""
    open_clip = pytest.importorskip("open_clip").tokenizer
    theirs = open_clip.SimpleTokenizer(clean="lower")
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(piece, piece): i for piece, i in theirs.encoder.items()}
    merges = [" ".join(pair) for pair in sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.get)]
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    tokenizer, rows = read_tokenizer(tmp_path, False)
    assert tokenizer.vocab_size == 49_409 and len(vocabulary) == 49_408
    hf = transformers.CLIPTokenizer(vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"))
    start, end = 49_406, 49_407
    expected = [hf(caption).input_ids[1:-1] for caption in CAPTIONS]
    ids = check((tokenizer, rows), expected, [start], end)
    comes_back(tokenizer, ids, tmp_path)
    hf.save_pretrained(tmp_path / "whole")
    assert torch.equal(read_tokenizer(tmp_path / "whole", False)[0](CAPTIONS, LONG), ids)
    original = theirs(CAPTIONS, LONG)
    mapped = torch.tensor(rows)[ids].masked_fill(ids == PAD_ID, 0)
    differ = [caption for caption, a, b in zip(CAPTIONS, mapped, original) if not torch.equal(a, b)]
    # OpenAI's code and open_clip let ftfy repair these first (and Python ends words with another sigma)
    marks = ["\ufb01", "\u03a3\u03a3", "\uff0c", "\uff46", "\x00", "\u00ad", "\u201c"]
    assert len(differ) == len(marks) and all(
        mark in caption for mark, caption in zip(marks, sorted(differ, key=CAPTIONS.index))
    )


def test_siglips_unigram_is_that_of_sentencepiece(tmp_path, corpus):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, vocab_size=330, character_coverage=0.98, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    hf = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
    expected = [hf(caption).input_ids[:-1] for caption in CAPTIONS]
    tokenizer, rows = read_tokenizer(tmp_path, False)
    ids = check((tokenizer, rows), expected, [], 1)
    comes_back(tokenizer, ids, tmp_path)


def test_berts_wordpiece_is_that_of_transformers(tmp_path, corpus):
    from tokenizers import BertWordPieceTokenizer

    made = BertWordPieceTokenizer()
    made.train_from_iterator(corpus, vocab_size=400, show_progress=False)
    made.save_model(str(tmp_path))
    hf = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    hf.save_pretrained(tmp_path / "bert")
    expected = [hf(caption).input_ids[1:-1] for caption in CAPTIONS]
    for strip, end in ((True, hf.pad_token_id), (False, hf.sep_token_id)):
        ours = read_tokenizer(tmp_path / "bert", strip)
        ids = check(ours, expected, [hf.cls_token_id], end)
    comes_back(ours[0], ids, tmp_path)
