"""Byte-level BPE has the tokens that `tokenizers` has: of one trained here, and of those that it has made itself."""
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

feedback, work = sys.argv[1], Path(sys.argv[2])
# Larger than what is held in memory: the tokens lie in the cache.
SIZE = 34 << 20
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def mixed():
    """Prose, code, emoji, combining marks, CRLF, right-to-left, and any characters at all."""
    random.seed(1)
    code = "\n".join(path.read_text() for path in sorted(Path(__file__).resolve().parents[2].glob("Sources/**/*.swift")))
    words = (
        "Größe café cafe\u0301 naïve don't DON'T it's we'll Привет мир שלום עולם مرحبا ١٢٣ ½ Ⅷ 12345 漢字 かな 한국어 ไทย "
        "हिन्दी z\u0335a\u0300 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ !? ... <|endoftext|>").split()
    spaces = [" "] * 9 + ["  ", "\n", "\r\n", "\t", "\r\n\r\n", "\u00a0", "\u3000", " \n ", " \t ", "\u2028", "\u0085", ""]
    parts, size = [], 0
    while size < SIZE:
        kind = random.random()
        if kind < 0.5:
            start = random.randrange(len(code) - 4000)
            part = code[start : start + random.randrange(4000)]
            part = part.replace("\n", "\r\n") if random.random() < 0.3 else part
        elif kind < 0.95:
            part = "".join(random.choice(words) + random.choice(spaces) for _ in range(300))
        else:
            # Of the planes' first parts, which every version of Unicode knows.
            part = "".join(chr(random.choice([random.randrange(0x530), random.randrange(0x3040, 0xA000)])) for _ in range(200))
        parts.append(part)
        size += len(part.encode())
    return "".join(parts)


def pieces(text):
    """A text in parts that no word straddles: at once it would take `tokenizers` too much memory."""
    start = 0
    for match in re.finditer(r"(?<=[a-z]) (?=[a-z])", text):
        if match.start() - start > 1 << 20:
            yield text[start : match.start()]
            start = match.start()
    yield text[start:]


def train(name, *arguments):
    output = work / name
    subprocess.run(
        [feedback, "train", "--data", work / "mixed.txt", "--layers", "1", "--d-model", "8", "--heads", "1", "--d-ff", "8",
         "--steps", "1", "--batch-size", "1", "--sequence-length", "8", "--quiet", "--output", output, *arguments],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": str(work / "cache")})
    return output / "checkpoints/last/tokenizer.json"


def check(name, file, text):
    tokenizer = Tokenizer.from_file(str(file))
    for entry in (work / "cache/feedback/tokens").glob("*/tokens.bin"):
        if entry.stat().st_size > 0 and (entry.parent / "tokenizer.json").read_bytes() == file.read_bytes():
            break
    width = 2 if tokenizer.get_vocab_size() <= 1 << 16 else 4
    data, at, count = entry.read_bytes(), 0, 0
    assert json.loads((entry.parent / "text.json").read_text())["count"] * width == len(data)
    for piece in pieces(text):
        ids = tokenizer.encode(piece, add_special_tokens=False).ids
        expected = b"".join(token.to_bytes(width, "little") for token in ids)
        assert data[at : at + len(expected)] == expected, f"{name}: other tokens from {count} on"
        assert tokenizer.decode(ids, skip_special_tokens=False) == piece
        at, count = at + len(expected), count + len(ids)
    assert at == len(data)
    print(f"BPE: {name}: {tokenizer.get_vocab_size()} in the vocabulary, {count} tokens agree")


def theirs(name, split, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [text[:2_000_000]],
        trainers.BpeTrainer(
            vocab_size=4000, show_progress=False, special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    file = work / f"{name}.json"
    tokenizer.save(str(file))
    written = train(name, "--tokenizer", file)
    mine = Tokenizer.from_file(str(written))
    assert mine.get_vocab() == tokenizer.get_vocab()
    assert mine.encode(text[:100_000]).ids == tokenizer.encode(text[:100_000]).ids
    check(name, written, text)


text = mixed()
(work / "mixed.txt").write_bytes(text.encode())
check("trained here", train("own", "--tokenizer", "bpe", "--vocabulary-size", "4000"), text)
theirs("split as GPT-2's", pre_tokenizers.ByteLevel(add_prefix_space=False))
theirs(
    "split as Llama 3's",
    pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    ignore_merges=True)
